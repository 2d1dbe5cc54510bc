/** The unified diff of one file. Its lines are made when it is opened. */
import { useQuery } from "@tanstack/react-query";
import { memo, useEffect, useRef, useState } from "react";
import type { TaskDiff } from "../../../../../src/client/types.ts";
import { Icon } from "../../../components/icon.tsx";
import { client, problemText } from "../../../lib/client.ts";
import { formatCount, pluralize } from "../../../lib/format.ts";
import { useTaskView } from "../task-screen.tsx";
import type { Comments } from "./comments.tsx";
import { BinaryFile } from "./body/binary-file.tsx";
import { DiffLines } from "./body/diff-lines.tsx";
import { readTyped, StrandedComment } from "./typed.tsx";
import { useLast } from "./body/use-last.ts";
import { ChangeSize, FileLetter, fileId, Path } from "./file-labels.tsx";

/** Lines of a file that the list left out which are loaded without a tap. */
const LOADED_LINES = 400;

interface DiffFileProps {
  readonly file: TaskDiff["files"][number];
  readonly comments: Comments;
  readonly isSeen: boolean;
  /** How many files that are not seen can be marked together with it. */
  readonly alike: number;
  /** Another number than 0 leads here, each time that it changes. */
  readonly goal: number;
  readonly isOpenAtFirst: boolean;
  readonly onSeen: (file: DiffFileProps["file"], isSeen: boolean) => void;
  readonly onAlike: (file: DiffFileProps["file"]) => void;
}

export const DiffFile = memo(function DiffFile(props: DiffFileProps) {
  const { file, comments, isSeen, alike, goal, onSeen, onAlike } = props;
  const [isOpen, setOpen] = useState(
    () => props.isOpenAtFirst || goal > 0 || readTyped(comments.taskId)[file.path] !== undefined,
  );
  const section = useRef<HTMLElement>(null);
  const reached = useRef(0);
  useEffect(() => {
    if (goal === 0 || goal === reached.current) return;
    // Near the end of the page there is nowhere to scroll to before its lines are there.
    if (!isOpen) setOpen(true);
    else {
      reached.current = goal;
      section.current?.scrollIntoView();
    }
  }, [goal, isOpen]);
  const name = file.path.slice(file.path.lastIndexOf("/") + 1);
  return (
    <section ref={section} className="diff-file" id={fileId(file.path)} aria-label={file.path}>
      <div className="diff-head">
        <FileLetter status={file.status} />
        <h3 className="path grow">
          <Path path={file.path} />
        </h3>
        <span className="num">
          <ChangeSize file={file} />
        </span>
        <button
          className="iconbtn seen-mark"
          type="button"
          aria-pressed={isSeen}
          aria-label={`Mark ${name} as seen`}
          onClick={() => onSeen(file, !isSeen)}
        >
          <Icon name="check" />
        </button>
        <button
          className="iconbtn"
          type="button"
          aria-expanded={isOpen}
          aria-label={`${isOpen ? "Fold" : "Show"} ${name}`}
          onClick={() => setOpen(!isOpen)}
        >
          <Icon name="chev-d" className={isOpen ? "flip" : ""} />
        </button>
      </div>
      {file.oldPath !== null && file.oldPath !== file.path && <p className="note moved">was {file.oldPath}</p>}
      {isOpen && <DiffBody file={file} comments={comments} name={name} />}
      {alike > 1 && !isSeen && (
        <div className="folded">
          <button className="btn quiet" type="button" onClick={() => onAlike(file)}>
            Mark all {formatCount(alike)} alike as seen
          </button>
        </div>
      )}
    </section>
  );
});

type BodyProps = Pick<DiffFileProps, "file" | "comments"> & { readonly name: string };

function DiffBody({ file, comments, name }: BodyProps) {
  const { path, patch, binary } = file;
  if (binary)
    return (
      <>
        <StrandedComment path={path} comments={comments} />
        <BinaryFile file={file} name={name} />
      </>
    );
  if (patch === null) return <LeftOut file={file} comments={comments} name={name} />;
  return <DiffLines path={path} name={name} patch={patch} comments={comments} />;
}

/** The lines of a file that a large change left out; many are asked for with a tap. */
function LeftOut({ file, comments, name }: BodyProps) {
  const { task } = useTaskView();
  const { path, additions, deletions } = file;
  const [isWanted, setWanted] = useState(
    () => additions + deletions <= LOADED_LINES || readTyped(task.id)[path] !== undefined,
  );
  const { data: newest, error } = useQuery({
    queryKey: ["diff-file", task.id, path, task.headSha, additions, deletions],
    queryFn: ({ signal }) => client.diffFile(task.id, path, { signal }),
    enabled: isWanted,
  });
  const data = useLast(newest);
  if (data?.patch === null)
    return (
      <>
        <StrandedComment path={path} comments={comments} />
        <p className="folded note">Too large to show here. The branch has it.</p>
      </>
    );
  if (data !== undefined) return <DiffLines path={path} name={name} patch={data.patch} comments={comments} />;
  if (error !== null) return <p className="folded hint bad">{problemText(error)}</p>;
  if (isWanted) return <p className="folded note">Loading its lines…</p>;
  return (
    <p className="folded">
      <button className="btn line" type="button" onClick={() => setWanted(true)}>
        Show {pluralize(additions + deletions, "line")}
      </button>
    </p>
  );
}
