/**
 * Attachments of a text that is being written: uploaded at once, kept with its draft on this device
 * until it is sent.
 */
import { useCallback, useEffect, useRef, useState } from "react";
import type { Attachment } from "../../../../src/core/values/attachment.ts";
import { problemText } from "../client.ts";
import { newKey } from "../device/outbox.ts";
import { readDraft, writeDraft } from "../drafts.ts";

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

function keep(name: string, items: readonly Attached[]): void {
  const kept = items.flatMap(({ attachment }) => (attachment === null ? [] : [attachment]));
  writeDraft(name, kept.length === 0 ? "" : JSON.stringify(kept));
}

function readKept(name: string): Attached[] {
  try {
    const kept = JSON.parse(readDraft(name) || "[]") as Attachment[];
    return kept.map((attachment) => ({ key: attachment.id, name: attachment.name, attachment, problem: null }));
  } catch {
    return [];
  }
}

/** One after the other: a phone has one line, and people see the first one arrive. */
async function uploadAll(
  files: readonly { readonly key: string; readonly file: File }[],
  isRemoved: (key: string) => boolean,
  onEnd: (key: string, change: Partial<Attached>) => void,
): Promise<void> {
  for (const { key, file } of files) {
    if (isRemoved(key)) continue;
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
  const [items, setItems] = useState(() => readKept(draft));
  /** Those that were removed while they were sent. */
  const removed = useRef(new Set<string>());
  useEffect(() => keep(draft, items), [draft, items]);

  const add = (files: Iterable<File>): void => {
    const fresh = [...files].map((file) => ({ key: newKey(), file }));
    const room = MAX_ATTACHMENTS - items.filter(({ problem }) => problem === null).length;
    const taken = fresh.slice(0, Math.max(0, room));
    setItems((before) => [
      ...before,
      ...fresh.map((one, i) => ({
        key: one.key,
        name: one.file.name,
        attachment: null,
        problem: i < taken.length ? null : `At most ${MAX_ATTACHMENTS} files can be attached.`,
      })),
    ]);
    void uploadAll(
      taken,
      (key) => removed.current.has(key),
      (key, change) => setItems((before) => before.map((item) => (item.key === key ? { ...item, ...change } : item))),
    );
  };

  const remove = useCallback((key: string) => {
    removed.current.add(key);
    setItems((before) => before.filter((item) => item.key !== key));
  }, []);

  const drop = (sent: readonly Attached[]): void => {
    const ids = sent.flatMap(({ attachment }) => attachment?.id ?? []);
    // The field may be gone from the screen by then.
    keep(
      draft,
      readKept(draft).filter(({ key }) => !ids.includes(key)),
    );
    setItems((before) => before.filter(({ key }) => !sent.some((item) => item.key === key)));
  };

  const ids = [...new Set(items.flatMap(({ attachment }) => (attachment === null ? [] : [attachment.id])))];
  return {
    items,
    isBusy: items.some(({ attachment, problem }) => attachment === null && problem === null),
    request: ids.length === 0 ? {} : { attachments: ids },
    add,
    remove,
    drop,
  };
}
