/** The unified diff of one file. Its lines are made when it is opened. */
import { useQuery } from "@tanstack/react-query";
import { memo, useState } from "react";
import type { TaskDiff } from "../../../../../src/client/types.ts";
import { Icon } from "../../../components/icon.tsx";
import { client, problemText } from "../../../lib/client.ts";
import { pluralize } from "../../../lib/format.ts";
import { useTaskView } from "../task-screen.tsx";
import type { Comments } from "./comments.tsx";
import { DiffLines } from "./diff-lines.tsx";
import { fileId, LETTERS, Path } from "./file-labels.tsx";

/** Lines of a file that the list left out which are loaded without a tap. */
const LOADED_LINES = 400;

interface DiffFileProps {
  readonly file: TaskDiff["files"][number];
  readonly comments: Comments;
  readonly isOpenAtFirst: boolean;
}

export const DiffFile = memo(function DiffFile({ file, comments, isOpenAtFirst }: DiffFileProps) {
  const [isOpen, setOpen] = useState(isOpenAtFirst);
  const name = file.path.slice(file.path.lastIndexOf("/") + 1);
  return (
    <section className="diff-file" id={fileId(file.path)} aria-label={file.path}>
      <div className="diff-head">
        <span className={`letter ${file.status === "added" ? "a" : file.status === "deleted" ? "d" : ""}`}>
          {LETTERS[file.status]}
        </span>
        <h3 className="path grow">
          <Path path={file.path} />
        </h3>
        <span className="num">
          <span className="add">+{file.additions}</span> <span className="del">−{file.deletions}</span>
        </span>
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
    </section>
  );
});

type BodyProps = Pick<DiffFileProps, "file" | "comments"> & { readonly name: string };

function DiffBody({ file, comments, name }: BodyProps) {
  const { path, patch, binary } = file;
  if (binary) return <p className="folded note">A binary file.</p>;
  if (patch === null) return <LeftOut file={file} comments={comments} name={name} />;
  return <DiffLines path={path} name={name} patch={patch} comments={comments} />;
}

/** The lines of a file that a large change left out; many are asked for with a tap. */
function LeftOut({ file, comments, name }: BodyProps) {
  const { task } = useTaskView();
  const { path, additions, deletions } = file;
  const [isWanted, setWanted] = useState(additions + deletions <= LOADED_LINES);
  const { data, error } = useQuery({
    queryKey: ["diff-file", task.id, path, task.headSha, additions, deletions],
    queryFn: ({ signal }) => client.diffFile(task.id, path, { signal }),
    enabled: isWanted,
  });
  if (data?.patch === null) return <p className="folded note">Too large to show here. The branch has it.</p>;
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
