/** A change of many files: a tree, some diffs, and a bar that leads from file to file. */
import { useMemo } from "react";
import { pluralize } from "../../../lib/format.ts";
import { CommentBatch, pathOf } from "./comments.tsx";
import { DiffFile } from "./diff-file.tsx";
import { countAlike, OPEN_LINES, type ChangesProps } from "./few-files.tsx";
import { FileBar, SeenBar } from "./files/file-bar.tsx";
import { FilterFields, useFileFilter } from "./files/file-filter.tsx";
import { DRAWN, useFileSteps, type FileSteps } from "./files/file-steps.ts";
import { FileTree } from "./files/file-tree.tsx";
import { buildTree, listFiles, type FileChange } from "./files/tree.ts";

/** Diffs that are open at first, from the file that is looked at on. */
const OPEN = 10;
/** Of fewer files all folders are open. */
const OPEN_FOLDERS = 60;

export function ManyFiles(props: ChangesProps) {
  const { diff, totals, comments, seen } = props;
  const files = useMemo(() => listFiles(buildTree(diff.files)), [diff]);
  const steps = useFileSteps(files, seen);
  if (steps === null) return null;
  const [from, to] = steps.drawn;
  return (
    <div className="many-files">
      <div className="two-col">
        <FilePane {...props} files={files} steps={steps} />
        <div>
          <h2 className="sr">Diffs</h2>
          {from > 0 && (
            <button className="more-row" type="button" onClick={() => steps.draw(-1)}>
              {pluralize(Math.min(DRAWN, from), "file")} before
            </button>
          )}
          {files.slice(from, to).map((file, i) => (
            <DiffFile
              key={file.path}
              file={file}
              comments={comments}
              isSeen={seen.has(file)}
              alike={countAlike(props, file)}
              goal={file === steps.current ? steps.act : 0}
              isOpenAtFirst={i < OPEN && !seen.has(file) && file.additions + file.deletions <= OPEN_LINES}
              onSeen={props.onSeen}
              onAlike={props.onAlike}
            />
          ))}
          {files.length > to && (
            <button className="more-row" type="button" onClick={() => steps.draw(1)}>
              {pluralize(Math.min(DRAWN, files.length - to), "file")} after
            </button>
          )}
        </div>
      </div>
      <div className="docked">
        <FileBar steps={steps} count={files.length} unseen={totals.count - totals.seen} />
        <CommentBatch comments={comments} />
      </div>
    </div>
  );
}

interface FilePaneProps extends ChangesProps {
  readonly files: readonly FileChange[];
  readonly steps: FileSteps;
}

function FilePane({ diff, totals, comments, seen, files, steps }: FilePaneProps) {
  const commented = useMemo(() => new Set(comments.all.map(([key]) => pathOf(key))), [comments]);
  const filter = useFileFilter(files, seen, commented);
  const tree = useMemo(() => buildTree(filter.listed), [filter.listed]);
  return (
    <section className="file-pane" aria-label="Files">
      <SeenBar {...totals} />
      {diff.truncated && <p className="note">The change is large; some files are shown without their lines.</p>}
      <FilterFields {...filter} />
      {filter.listed.length === 0 && <p className="empty">No file is like that.</p>}
      <FileTree
        // A filter begins with folders as it finds them.
        key={`${filter.kind} ${filter.text === ""}`}
        folder={tree}
        seen={seen}
        current={steps.current.path}
        isOpen={filter.listed.length <= OPEN_FOLDERS}
        onPick={steps.goTo}
      />
    </section>
  );
}
