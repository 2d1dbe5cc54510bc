/** The unified diff of one file. Its lines are made when it is opened. */
import { memo, useMemo, useState } from "react";
import type { TaskDiff } from "../../../../../src/client/types.ts";
import { Icon } from "../../../components/icon.tsx";
import { parsePatch, type PatchLine } from "../../../lib/patch.ts";
import { fileId, LETTERS, Path } from "./file-labels.tsx";
import { LineComment, type Comments } from "./comments.tsx";

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

function DiffBody({ file, comments, name }: { file: DiffFileProps["file"]; comments: Comments; name: string }) {
  const lines = useMemo(() => parsePatch(file.patch ?? ""), [file.patch]);
  const [selected, setSelected] = useState<number | null>(null);
  if (file.binary) return <p className="folded note">A binary file.</p>;
  if (file.patch === null) return <p className="folded note">Too large to show here. The branch has it.</p>;
  return (
    <div className="diff-scroll" tabIndex={0} role="region" aria-label={`Diff of ${name}`}>
      <table className="diff">
        <tbody>
          {lines.map((line, i) => {
            const key = `${file.path}:${line.number}`;
            const isSelected = selected === i;
            const comment = line.kind === "hunk" ? undefined : comments.get(key);
            return [
              <DiffRow
                key={i}
                line={line}
                isSelected={isSelected}
                hasComment={comment !== undefined}
                onPick={() => setSelected(isSelected ? null : i)}
              />,
              isSelected || comment !== undefined ? (
                <tr key={`${i} comment`} className="say">
                  <td colSpan={3}>
                    <LineComment
                      comments={comments}
                      path={file.path}
                      line={line}
                      isEditing={isSelected}
                      onDone={() => setSelected(null)}
                    />
                  </td>
                </tr>
              ) : null,
            ];
          })}
        </tbody>
      </table>
    </div>
  );
}

const SIGNS = { add: "+", del: "−", same: " ", hunk: "" } as const;
const CLASSES = { add: "a", del: "d", same: "", hunk: "hunk" } as const;

interface DiffRowProps {
  readonly line: PatchLine;
  readonly isSelected: boolean;
  readonly hasComment: boolean;
  readonly onPick: () => void;
}

function DiffRow({ line, isSelected, hasComment, onPick }: DiffRowProps) {
  const { kind, number, parts, text } = line;
  const className = [CLASSES[kind], hasComment ? "has" : "", isSelected ? "sel" : ""]
    .filter((name) => name !== "")
    .join(" ");
  if (kind === "hunk")
    return (
      <tr className="hunk">
        <td className="ln" />
        <td className="sg" />
        <td className="cd">{text}</td>
      </tr>
    );
  return (
    <tr className={className || undefined} onClick={onPick}>
      <td className="ln">{number}</td>
      <td className="sg">{SIGNS[kind]}</td>
      <td className="cd">
        {parts === null
          ? text
          : parts.map((part, i) =>
              !part.isChanged ? (
                part.text
              ) : kind === "add" ? (
                <ins key={i}>{part.text}</ins>
              ) : (
                <del key={i}>{part.text}</del>
              ),
            )}
      </td>
    </tr>
  );
}
