/**
 * Attachments of a text that is being written: uploaded at once, kept with its draft on this device
 * until it is sent.
 */
import { useEffect, useState } from "react";
import type { Attachment } from "../../../../src/core/values/attachment.ts";
import { problemText } from "../client.ts";
import { newKey } from "../../../../src/client/transport.ts";
import { writeDraft } from "../drafts.ts";
import { session } from "../session.ts";
import { createStore, useStore, type Store } from "../store.ts";
import { filesRestored, readFiles } from "./kept-files.ts";

/** Attachments of one text; the server refuses more. */
export const MAX_ATTACHMENTS = 10;

export interface Attached {
  readonly key: string;
  readonly name: string;
  /** Null while it is sent, and when that failed. */
  readonly attachment: Attachment | null;
  /** Why it could not be sent. */
  readonly problem: string | null;
}

export interface Attaching {
  readonly items: readonly Attached[];
  readonly isBusy: boolean;
  /** The field of a request; none without attachments. */
  readonly request: { readonly attachments?: string[] };
  add(files: Iterable<File>): void;
  remove(key: string): void;
  /** After the text was sent with these. */
  drop(sent: readonly Attached[]): void;
}

type Items = Store<readonly Attached[]>;

/** Where uploads are under way, by draft: they go on when their field leaves the screen. */
const uploading = new Map<string, Items>();

session.subscribe(() => {
  if (session.get().kind === "none") uploading.clear();
});

function keep(draft: string, items: readonly Attached[]): void {
  const kept = items.flatMap(({ attachment }) => (attachment === null ? [] : [attachment]));
  writeDraft(draft, kept.length === 0 ? "" : JSON.stringify(kept));
}

const readKept = (draft: string): Attached[] =>
  readFiles(draft).map((attachment) => ({
    key: attachment.id,
    name: attachment.name,
    attachment,
    problem: null,
  }));

const isUnderWay = ({ attachment, problem }: Attached): boolean => attachment === null && problem === null;

/** One after the other: a phone has one line, and people see the first one arrive. */
async function uploadAll(
  files: readonly { readonly key: string; readonly file: File }[],
  isWanted: (key: string) => boolean,
  onEnd: (key: string, change: Partial<Attached>) => void,
): Promise<void> {
  for (const { key, file } of files) {
    if (!isWanted(key)) continue;
    try {
      const { upload } = await import("./upload.ts");
      const attachment = await upload(file);
      onEnd(key, { attachment, name: attachment.name });
    } catch (thrown) {
      onEnd(key, { problem: problemText(thrown) });
    }
  }
}

/** @param draft the name of the draft that keeps them. */
export function useAttaching(draft: string): Attaching {
  const [store] = useState<Items>(() => uploading.get(draft) ?? createStore<readonly Attached[]>(readKept(draft)));
  const items = useStore(store);
  const change = (next: (before: readonly Attached[]) => readonly Attached[]): void => {
    store.set(next(store.get()));
    keep(draft, store.get());
  };
  const restored = useStore(filesRestored);
  useEffect(() => {
    const present = store.get();
    const back = readKept(draft).filter(({ key }) => !present.some(({ attachment }) => attachment?.id === key));
    if (back.length > 0) store.set([...present, ...back]);
  }, [restored, draft, store]);

  const add = (files: Iterable<File>): void => {
    const fresh = [...files].map((file) => ({ key: newKey(), file }));
    const room = MAX_ATTACHMENTS - items.filter(({ problem }) => problem === null).length;
    const taken = fresh.slice(0, Math.max(0, room));
    change((before) => [
      ...before,
      ...fresh.map((one, i) => ({
        key: one.key,
        name: one.file.name,
        attachment: null,
        problem: i < taken.length ? null : `At most ${MAX_ATTACHMENTS} files can be attached.`,
      })),
    ]);
    uploading.set(draft, store);
    const isWanted = (key: string): boolean =>
      uploading.get(draft) === store && store.get().some((one) => one.key === key);
    const end = (key: string, result: Partial<Attached>): void => {
      if (isWanted(key)) change((before) => before.map((item) => (item.key === key ? { ...item, ...result } : item)));
    };
    void uploadAll(taken, isWanted, end).then(() => {
      if (uploading.get(draft) === store && !store.get().some(isUnderWay)) uploading.delete(draft);
    });
  };

  const drop = (sent: readonly Attached[]): void => {
    const ids = sent.flatMap(({ attachment }) => attachment?.id ?? []);
    change((before) => before.filter(({ key }) => !sent.some((item) => item.key === key)));
    // Another field of the draft may have others by then.
    keep(
      draft,
      readKept(draft).filter(({ key }) => !ids.includes(key)),
    );
  };

  const ids = [...new Set(items.flatMap(({ attachment }) => (attachment === null ? [] : [attachment.id])))];
  return {
    items,
    isBusy: items.some(isUnderWay),
    request: ids.length === 0 ? {} : { attachments: ids },
    add,
    remove: (key) => change((before) => before.filter((item) => item.key !== key)),
    drop,
  };
}
