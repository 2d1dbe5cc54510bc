/** A change of few files: a list, then every diff. */
import { useState } from "react";
import type { TaskDiff } from "../../../../../src/client/types.ts";
import { pluralize } from "../../../lib/format.ts";
import { CommentBatch, type Comments } from "./comments.tsx";
import { DiffFile } from "./diff-file.tsx";
import { ChangeSize, FileLetter, Path } from "./file-labels.tsx";
import type { Totals } from "./files/file-bar.tsx";
import type { Seen } from "./files/seen.ts";
import type { FileChange } from "./files/tree.ts";

/** Files with more lines are opened with a tap. */
export const OPEN_LINES = 400;

export interface ChangesProps {
  readonly diff: TaskDiff;
  readonly totals: Totals;
  readonly comments: Comments;
  readonly seen: Seen;
  /** Files that can be marked together, by path. */
  readonly alike: ReadonlyMap<string, readonly FileChange[]>;
  readonly onSeen: (file: FileChange, isSeen: boolean) => void;
  readonly onAlike: (file: FileChange) => void;
}

/** The first of the alike files that is not seen offers to mark all of them. */
export function countAlike({ alike, seen }: ChangesProps, file: FileChange): number {
  const group = alike.get(file.path) ?? [];
  return group.find((one) => !seen.has(one)) === file ? group.filter((one) => !seen.has(one)).length : 0;
}

export function FewFiles(props: ChangesProps) {
  const { diff, totals, comments, seen } = props;
  const [goal, setGoal] = useState({ path: "", act: 0 });
  return (
    <>
      <section aria-labelledby="files-title">
        <h2 className="over" id="files-title">
          {pluralize(diff.files.length, "file")}{" "}
          <span className="n">
            <span className="add">+{totals.additions}</span> <span className="del">−{totals.deletions}</span>
          </span>
          <span className="grow" />
          {totals.seen > 0 && (
            <span className="n">
              {totals.seen} of {totals.count} seen
            </span>
          )}
        </h2>
        {diff.truncated && <p className="note">The change is large; some files are shown without their lines.</p>}
        <ul className="rows files">
          {diff.files.map((file) => (
            <FileRow
              key={file.path}
              file={file}
              isSeen={seen.has(file)}
              onPick={() => setGoal({ path: file.path, act: goal.act + 1 })}
            />
          ))}
        </ul>
      </section>
      {diff.files.map((file) => (
        <DiffFile
          key={file.path}
          file={file}
          comments={comments}
          isSeen={seen.has(file)}
          alike={countAlike(props, file)}
          goal={goal.path === file.path ? goal.act : 0}
          isOpenAtFirst={!seen.has(file) && file.additions + file.deletions <= OPEN_LINES}
          onSeen={props.onSeen}
          onAlike={props.onAlike}
        />
      ))}
      {comments.all.length > 0 && (
        <div className="docked">
          <CommentBatch comments={comments} />
        </div>
      )}
    </>
  );
}

function FileRow({ file, isSeen, onPick }: { file: FileChange; isSeen: boolean; onPick: () => void }) {
  return (
    <li>
      <button className="filerow" type="button" onClick={onPick}>
        <FileLetter status={file.status} />
        <span className="path">
          <Path path={file.path} />
        </span>
        <span className="end">
          {isSeen && <span className="tag">seen</span>}
          <ChangeSize file={file} />
        </span>
      </button>
    </li>
  );
}
