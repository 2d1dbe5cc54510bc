/** The change so far: its files, then each file's diff. Lines take comments for the agent. */
import { useQuery } from "@tanstack/react-query";
import { useCallback, useMemo } from "react";
import { SlipwayProblem } from "../../../../../src/client/problem.ts";
import type { TaskDiff } from "../../../../../src/client/types.ts";
import { client, problemText } from "../../../lib/client.ts";
import { isSettled } from "../../../lib/tasks/task-view.ts";
import { useComments } from "./comments.tsx";
import { FewFiles } from "./few-files.tsx";
import { ManyFiles } from "./many-files.tsx";
import { useSeen } from "./files/seen.ts";
import { groupAlike, type FileChange } from "./files/tree.ts";
import { useTaskView } from "../task-screen.tsx";

/** More files are a tree. */
const FEW = 12;

export function ChangesView() {
  const { task, log } = useTaskView();
  const { changes } = log.conversation;
  const version = `${changes?.files ?? 0} ${changes?.additions ?? 0} ${changes?.deletions ?? 0} ${task.headSha ?? ""}`;
  const diff = useQuery({
    queryKey: ["diff", task.id, version],
    queryFn: ({ signal }) => client.diff(task.id, { signal }),
    // Before the first checkpoint the server has none.
    enabled: task.headSha !== null,
    placeholderData: (previous) => previous,
    retry: (count, error) => count < 2 && !(error instanceof SlipwayProblem && error.status === 404),
  });
  if (task.headSha === null || (diff.error instanceof SlipwayProblem && diff.error.status === 404))
    return (
      <p className="empty">
        {isSettled(task) ? "Nothing was changed." : "Nothing is saved yet. Changes appear with the first checkpoint."}
      </p>
    );
  if (diff.error !== null) return <p className="banner st-failed">{problemText(diff.error)}</p>;
  if (diff.data === undefined) return <p className="empty">Loading the changes…</p>;
  return <Changes diff={diff.data} />;
}

function Changes({ diff }: { diff: TaskDiff }) {
  const { task } = useTaskView();
  const comments = useComments(task.id);
  const seen = useSeen(task.id, diff);
  const { files } = diff;
  const alike = useMemo(() => groupAlike(files), [files]);
  const { mark } = seen;
  const onSeen = useCallback((file: FileChange, isSeen: boolean) => mark([file], isSeen), [mark]);
  const onAlike = useCallback((file: FileChange) => mark(alike.get(file.path) ?? [], true), [mark, alike]);
  const totals = useMemo(
    () => ({
      count: files.length,
      seen: files.filter((file) => seen.has(file)).length,
      additions: files.reduce((sum, file) => sum + file.additions, 0),
      deletions: files.reduce((sum, file) => sum + file.deletions, 0),
    }),
    [files, seen],
  );
  if (files.length === 0) return <p className="empty">Nothing was changed.</p>;
  const shared = { diff, totals, comments, seen, alike, onSeen, onAlike };
  return files.length > FEW ? <ManyFiles {...shared} /> : <FewFiles {...shared} />;
}
