/** The files of a large change: folders with their lines and the share of them that was seen. */
import { useState } from "react";
import { Icon } from "../../../../components/icon.tsx";
import { LineCount } from "../../../../components/tasks/change-count.tsx";
import { formatCount, pluralize } from "../../../../lib/format.ts";
import { ChangeSize, FileLetter } from "../file-labels.tsx";
import type { Seen } from "./seen.ts";
import { isBelow, listFiles, type FileChange, type Folder } from "./tree.ts";

/** Files of one folder that are listed at first, and with each request for more. */
const LISTED = 30;
const MORE = 300;
/** Rows before the file that is looked at. */
const ABOVE = 5;

interface TreeProps {
  readonly seen: Seen;
  /** The path of the file that is looked at. */
  readonly current: string;
  /** True = folders are open until somebody closes them. */
  readonly isOpen: boolean;
  readonly onPick: (file: FileChange) => void;
}

export function FileTree({ folder, ...props }: TreeProps & { readonly folder: Folder }) {
  return (
    <ul className="tree" aria-label="Changed files">
      <Branch folder={folder} {...props} />
    </ul>
  );
}

function Branch({ folder, ...props }: TreeProps & { readonly folder: Folder }) {
  const [limit, setLimit] = useState(LISTED);
  const { folders, files } = folder;
  const at = files.findIndex(({ path }) => path === props.current);
  // The file that is looked at is among those that are listed.
  const from = at < limit ? 0 : at - ABOVE;
  const to = from + limit;
  return (
    <>
      {folders.map((below) => (
        <FolderRow key={below.path} folder={below} {...props} />
      ))}
      {from > 0 && <MoreRow text={`${pluralize(from, "file")} before`} onPick={() => setLimit(at + MORE)} />}
      {files.slice(from, to).map((file) => (
        <FileRow key={file.path} file={file} {...props} />
      ))}
      {files.length > to && (
        <MoreRow text={pluralize(files.length - to, "more file")} onPick={() => setLimit(limit + MORE)} />
      )}
    </>
  );
}

function MoreRow({ text, onPick }: { text: string; onPick: () => void }) {
  return (
    <li>
      <button className="filerow" type="button" onClick={onPick}>
        <span />
        <span className="muted">{text}</span>
        <span className="end">
          <Icon name="chev-d" small />
        </span>
      </button>
    </li>
  );
}

function FolderRow({ folder, ...props }: TreeProps & { readonly folder: Folder }) {
  // Null = nobody touched it.
  const [wish, setWish] = useState<boolean | null>(null);
  const isOpen = wish ?? (props.isOpen || isBelow(props.current, folder));
  const { name, count, additions, deletions } = folder;
  const seen = listFiles(folder).filter((file) => props.seen.has(file)).length;
  return (
    <li>
      <details
        open={isOpen}
        onToggle={(event) => {
          if (event.currentTarget.open !== isOpen) setWish(event.currentTarget.open);
        }}
      >
        <summary>
          <Icon name="chev-r" small className="turn" />
          <b>{name}</b>
          <span className="end">
            {additions + deletions > 0 && <LineCount additions={additions} deletions={deletions} />}
            <Pie share={seen / count} />
            <span>
              {formatCount(seen)}/{formatCount(count)}
              <span className="sr"> seen</span>
            </span>
          </span>
        </summary>
        {isOpen && (
          <ul>
            <Branch folder={folder} {...props} />
          </ul>
        )}
      </details>
    </li>
  );
}

function FileRow({ file, seen, current, onPick }: TreeProps & { readonly file: FileChange }) {
  const isSeen = seen.has(file);
  const isHere = file.path === current;
  return (
    <li>
      <button
        className={`filerow${isSeen ? " seen" : ""}${isHere ? " here" : ""}`}
        type="button"
        aria-current={isHere ? "true" : undefined}
        onClick={() => onPick(file)}
      >
        {isSeen ? <Icon name="check" small /> : <FileLetter status={file.status} />}
        <span className="path">
          <bdi>
            <b>{file.path.slice(file.path.lastIndexOf("/") + 1)}</b>
          </bdi>
        </span>
        <span className="end">
          {isSeen && <span className="sr">seen</span>}
          <ChangeSize file={file} />
        </span>
      </button>
    </li>
  );
}

function Pie({ share }: { share: number }) {
  return (
    <svg className="pie" viewBox="0 0 16 16" aria-hidden="true">
      <circle
        className="p"
        cx="8"
        cy="8"
        r="3"
        pathLength="100"
        strokeDasharray={`${Math.round(share * 100)} 100`}
        transform="rotate(-90 8 8)"
      />
      <circle className="o" cx="8" cy="8" r="6.5" />
    </svg>
  );
}
