/** Searches what stands below it: hits are counted, and gone through in either order. */
import { useId } from "react";
import { formatCount } from "../../lib/format.ts";
import { Icon } from "../icon.tsx";

interface SearchFieldProps {
  readonly label: string;
  readonly query: string;
  readonly onQuery: (query: string) => void;
  readonly count: number;
  /** True = there are more than are counted. */
  readonly isMore?: boolean;
  /** The hit that is shown, from 0; -1 = none is. */
  readonly at: number;
  readonly onStep: (step: -1 | 1) => void;
}

export function SearchField({ label, query, onQuery, count, isMore = false, at, onStep }: SearchFieldProps) {
  const id = useId();
  const total = `${formatCount(count)}${isMore ? "+" : ""}`;
  return (
    <div className="searchbox" role="search">
      <Icon name="search" small />
      <label className="sr" htmlFor={id}>
        {label}
      </label>
      <input
        id={id}
        inputMode="search"
        autoComplete="off"
        spellCheck={false}
        value={query}
        placeholder="Search"
        onChange={(event) => onQuery(event.target.value)}
        onKeyDown={(event) => {
          if (event.key !== "Enter") return;
          event.preventDefault();
          onStep(event.shiftKey ? -1 : 1);
        }}
      />
      <span className="num" role="status">
        {query === "" ? "" : count === 0 ? "none" : at === -1 ? total : `${formatCount(at + 1)} of ${total}`}
      </span>
      <button
        className="iconbtn"
        type="button"
        aria-label="Hit before"
        disabled={count === 0}
        onClick={() => onStep(-1)}
      >
        <Icon name="chev-d" className="flip" />
      </button>
      <button className="iconbtn" type="button" aria-label="Next hit" disabled={count === 0} onClick={() => onStep(1)}>
        <Icon name="chev-d" />
      </button>
    </div>
  );
}
