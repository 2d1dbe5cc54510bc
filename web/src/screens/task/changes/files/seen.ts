/**
 * Which files of a change were seen on this device.
 *
 * M1 A mark is of the file as it was seen: a file that changed again is unseen.
 * M2 Marks are kept as drafts are, and leave the device with them at the log-out.
 */
import { useCallback, useMemo, useState } from "react";
import type { TaskDiff } from "../../../../../../src/client/types.ts";
import { readDraft, writeDraft } from "../../../../lib/drafts.ts";
import { toMark } from "./mark.ts";
import type { FileChange } from "./tree.ts";

export interface Seen {
  has(file: FileChange): boolean;
  /** The same function while the change is the same. */
  readonly mark: (files: readonly FileChange[], isSeen: boolean) => void;
}

export function useSeen(taskId: string, diff: TaskDiff): Seen {
  const name = `seen.${taskId}`;
  const [marks, setMarks] = useState(() => readMarks(name));
  const known = useMemo(() => new Map(diff.files.map((file) => [file.path, toMark(file, diff.head)] as const)), [diff]);
  const mark = useCallback(
    (files: readonly FileChange[], isSeen: boolean) => {
      // Another tab may have marked others; those of earlier forms of the change go.
      const present = new Set(known.values());
      const next = new Set([...readMarks(name)].filter((one) => present.has(one)));
      for (const { path } of files) {
        const one = known.get(path) ?? "";
        if (isSeen) next.add(one);
        else next.delete(one);
      }
      writeDraft(name, [...next].join(" "));
      setMarks(next);
    },
    [name, known],
  );
  return useMemo(() => ({ has: ({ path }) => marks.has(known.get(path) ?? ""), mark }), [marks, known, mark]);
}

const readMarks = (name: string): ReadonlySet<string> => new Set(readDraft(name).split(" ").filter(Boolean));
