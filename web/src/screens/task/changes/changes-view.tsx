/** The change so far: its files, then each file's diff. Lines take comments for the agent. */
import { useQuery } from "@tanstack/react-query";
import { useCallback, useMemo } from "react";
import { SlipwayProblem } from "../../../../../src/client/problem.ts";
import type { TaskDiff } from "../../../../../src/client/types.ts";
import { Icon } from "../../../components/icon.tsx";
import { client, problemText } from "../../../lib/client.ts";
import { isSettled } from "../../../lib/tasks/task-view.ts";
import { CommentBatch, useComments } from "./comments.tsx";
import { FewFiles } from "./few-files.tsx";
import { ManyFiles } from "./many-files.tsx";
import { useSeen } from "./files/seen.ts";
import { groupAlike, type FileChange } from "./files/tree.ts";
import { StrandedComments } from "./typed.tsx";
import { useLast } from "./body/use-last.ts";
import { useTaskView } from "../task-screen.tsx";

/** More files are a tree. */
const FEW = 12;
/** Until a read that failed is made again, ms. */
const AGAIN_MS = 10_000;

export function ChangesView() {
  const { task, log } = useTaskView();
  const { changes } = log.conversation;
  const version = `${changes?.files ?? 0} ${changes?.additions ?? 0} ${changes?.deletions ?? 0} ${task.headSha ?? ""}`;
  const diff = useQuery({
    queryKey: ["diff", task.id, version],
    queryFn: ({ signal }) => client.diff(task.id, { signal }),
    // Before the first checkpoint the server has none.
    enabled: task.headSha !== null,
    retry: (count, error) => count < 2 && !(error instanceof SlipwayProblem && error.status === 404),
    refetchInterval: ({ state }) => (state.status === "error" ? AGAIN_MS : false),
  });
  // A re-read that fails takes nothing away.
  const shown = useLast(diff.data);
  if (task.headSha === null || (diff.error instanceof SlipwayProblem && diff.error.status === 404))
    return (
      <p className="empty">
        {isSettled(task) ? "Nothing was changed." : "Nothing is saved yet. Changes appear with the first checkpoint."}
      </p>
    );
  return (
    <>
      {diff.error !== null && (
        <p className="banner st-failed" role="alert">
          <Icon name="warn" />
          <span className="grow">
            {problemText(diff.error)}
            {shown !== undefined && " The change below may be older."}
          </span>
          <button className="btn line" type="button" disabled={diff.isFetching} onClick={() => void diff.refetch()}>
            Try again
          </button>
        </p>
      )}
      {shown !== undefined ? (
        <Changes diff={shown} />
      ) : (
        diff.error === null && <p className="empty">Loading the changes…</p>
      )}
    </>
  );
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
  const paths = useMemo(() => new Set(files.map(({ path }) => path)), [files]);
  const shared = { diff, totals, comments, seen, alike, onSeen, onAlike };
  return (
    <>
      <StrandedComments paths={paths} comments={comments} />
      {files.length === 0 ? (
        <>
          <p className="empty">Nothing was changed.</p>
          <CommentBatch comments={comments} />
        </>
      ) : files.length > FEW ? (
        <ManyFiles {...shared} />
      ) : (
        <FewFiles {...shared} />
      )}
    </>
  );
}
