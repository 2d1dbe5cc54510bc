/** The change so far: a list of files, then each file's diff. Lines take comments for the agent. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { SlipwayProblem } from "../../../../../src/client/problem.ts";
import type { TaskDiff } from "../../../../../src/client/types.ts";
import { Icon } from "../../../components/icon.tsx";
import { client, problemText } from "../../../lib/client.ts";
import { pluralize } from "../../../lib/format.ts";
import { isSettled } from "../../../lib/tasks/task-view.ts";
import { CommentBatch, useComments } from "./comments.tsx";
import { DiffFile } from "./diff-file.tsx";
import { fileId, LETTERS, Path } from "./file-labels.tsx";
import { useTaskView } from "../task-screen.tsx";

/** Files that are open at first; the others open on request. */
const OPEN_FILES = 10;
const OPEN_LINES = 400;
const LISTED = 200;

type FileChange = TaskDiff["files"][number];

export function ChangesView() {
  const { task, log } = useTaskView();
  const { changes } = log.conversation;
  const version = `${changes?.files ?? 0} ${changes?.additions ?? 0} ${changes?.deletions ?? 0} ${task.headSha ?? ""}`;
  const diff = useQuery({
    queryKey: ["diff", task.id, version],
    queryFn: ({ signal }) => client.diff(task.id, { signal }),
    placeholderData: (previous) => previous,
    retry: (count, error) => count < 2 && !(error instanceof SlipwayProblem && error.status === 404),
  });
  if (diff.error instanceof SlipwayProblem && diff.error.status === 404)
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
  const [limit, setLimit] = useState(LISTED);
  const additions = diff.files.reduce((sum, file) => sum + file.additions, 0);
  const deletions = diff.files.reduce((sum, file) => sum + file.deletions, 0);
  if (diff.files.length === 0) return <p className="empty">Nothing was changed.</p>;
  const shown = diff.files.slice(0, limit);
  return (
    <>
      <section aria-labelledby="files-title">
        <h2 className="over" id="files-title">
          {pluralize(diff.files.length, "file")}{" "}
          <span className="n">
            <span className="add">+{additions}</span> <span className="del">−{deletions}</span>
          </span>
        </h2>
        {diff.truncated && <p className="note">The change is large; some files are shown without their lines.</p>}
        <ul className="rows files">
          {shown.map((file) => (
            <FileRow key={file.path} file={file} />
          ))}
        </ul>
        {diff.files.length > limit && (
          <button className="more-row" type="button" onClick={() => setLimit(limit + 1_000)}>
            {diff.files.length - limit} more files
            <Icon name="chev-d" small />
          </button>
        )}
      </section>
      {shown.map((file, i) => (
        <DiffFile
          key={file.path}
          file={file}
          comments={comments}
          isOpenAtFirst={i < OPEN_FILES && file.additions + file.deletions <= OPEN_LINES}
        />
      ))}
      <CommentBatch comments={comments} />
    </>
  );
}

function FileRow({ file }: { file: FileChange }) {
  return (
    <li>
      <button
        className="filerow"
        type="button"
        onClick={() => document.getElementById(fileId(file.path))?.scrollIntoView()}
      >
        <span
          className={`letter ${file.status === "added" ? "a" : file.status === "deleted" ? "d" : ""}`}
          title={file.status}
        >
          {LETTERS[file.status]}
        </span>
        <span className="path">
          <Path path={file.path} />
        </span>
        <span className="end">
          <span className="add">+{file.additions}</span>
          <span className="del">−{file.deletions}</span>
        </span>
      </button>
    </li>
  );
}
