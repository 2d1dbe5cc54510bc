/** What is being typed on lines of a change: on this device until it is kept or closed. */
import { useState } from "react";
import { readDraft, writeDraft } from "../../../lib/drafts.ts";
import type { Place } from "./body/places.ts";
import { LineEditor, type Comments } from "./comments.tsx";

export interface Typed extends Place {
  readonly typed: string;
}

const draftOf = (taskId: string): string => `typing.${taskId}`;

/** By path: each file has one editor. */
export function readTyped(taskId: string): Readonly<Partial<Record<string, Typed>>> {
  try {
    return JSON.parse(readDraft(draftOf(taskId)) || "{}") as Record<string, Typed>;
  } catch {
    return {};
  }
}

export function keepTyped(taskId: string, path: string, typed: Typed | null): void {
  const { [path]: before, ...others } = readTyped(taskId);
  if (before === undefined && typed === null) return;
  const all = typed === null ? others : { ...others, [path]: typed };
  writeDraft(draftOf(taskId), Object.keys(all).length === 0 ? "" : JSON.stringify(all));
}

/** What was typed on a line of a file that has no lines in the change any more. */
export function StrandedComment({ path, comments }: { path: string; comments: Comments }) {
  const { taskId } = comments;
  const [typed, setTyped] = useState<Typed | null>(() => readTyped(taskId)[path] ?? null);
  if (typed === null) return null;
  const { typed: text, ...place } = typed;
  const change = (next: Typed | null): void => {
    setTyped(next);
    keepTyped(taskId, path, next);
  };
  return (
    <section aria-label={`Comment on ${path}`}>
      <LineEditor
        line={place}
        text={text}
        isGone
        isKept={false}
        step={0}
        onType={(next) => change({ ...place, typed: next })}
        onMove={null}
        onKeep={(kept) => {
          if (kept !== "") comments.put(path, [...comments.of(path), { place, text: kept }]);
          change(null);
        }}
        onClose={() => change(null)}
      />
    </section>
  );
}

/** Of all files that left the change. */
export function StrandedComments({ paths, comments }: { paths: ReadonlySet<string>; comments: Comments }) {
  return Object.keys(readTyped(comments.taskId))
    .filter((path) => !paths.has(path))
    .map((path) => <StrandedComment key={path} path={path} comments={comments} />);
}
