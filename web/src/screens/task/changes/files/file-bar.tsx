/** How much of a change was seen, and the bar that leads from file to file. */
import { Icon } from "../../../../components/icon.tsx";
import { formatCount, pluralize } from "../../../../lib/format.ts";
import { LineCount } from "../../../../components/tasks/change-count.tsx";
import { useFileKeys, type FileSteps } from "./file-steps.ts";
import type { FileChange } from "./tree.ts";

export interface Totals {
  readonly count: number;
  readonly seen: number;
  readonly additions: number;
  readonly deletions: number;
}

export function SeenBar({ count, seen, additions, deletions }: Totals) {
  return (
    <div className="seenbar">
      <h2>
        <b>{pluralize(count, "file")}</b>{" "}
        <span className="num">
          <LineCount additions={additions} deletions={deletions} />
        </span>
      </h2>
      <span className="num" id="files-seen">
        {formatCount(seen)} seen
      </span>
      <progress className="gauge st-done" max={count} value={seen} aria-labelledby="files-seen" />
    </div>
  );
}

const nameOf = ({ path }: FileChange): string => path.slice(path.lastIndexOf("/") + 1);

/** @param unseen how many files are not seen. */
export function FileBar({ steps, count, unseen }: { steps: FileSteps; count: number; unseen: number }) {
  const { index, current, step, goToUnseen, markAndGo } = steps;
  useFileKeys(steps);
  return (
    <div className="linebar stepbar">
      <span className="where" role="status" aria-label="File">
        <b>{nameOf(current)}</b>
        {formatCount(index + 1)} of {formatCount(count)}
      </span>
      <button
        className="iconbtn"
        type="button"
        aria-label="File before"
        disabled={index === 0}
        onClick={() => step(-1)}
      >
        <Icon name="chev-d" className="flip" />
      </button>
      <button
        className="iconbtn"
        type="button"
        aria-label="File after"
        disabled={index === count - 1}
        onClick={() => step(1)}
      >
        <Icon name="chev-d" />
      </button>
      <button
        className="btn quiet"
        type="button"
        aria-keyshortcuts="n"
        aria-label="Next file that is not seen"
        disabled={unseen === 0}
        onClick={goToUnseen}
      >
        Next
      </button>
      <button className="btn primary" type="button" aria-keyshortcuts="s" onClick={markAndGo}>
        <Icon name="check" small />
        {unseen === 0 ? "All seen" : "Seen, next"}
      </button>
    </div>
  );
}
