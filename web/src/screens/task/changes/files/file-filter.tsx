/** What of a large change is listed: by words of the path, and by kind. */
import { useMemo, useState } from "react";
import { Icon } from "../../../../components/icon.tsx";
import { formatCount } from "../../../../lib/format.ts";
import type { Seen } from "./seen.ts";
import type { FileChange } from "./tree.ts";

type Kind = "all" | "unseen" | "commented" | "renamed" | "binary";

const LABELS: readonly (readonly [Kind, string])[] = [
  ["all", "All"],
  ["unseen", "Not seen"],
  ["commented", "Commented"],
  ["renamed", "Renamed"],
  ["binary", "Binary"],
];

interface Filter {
  readonly kind: Kind;
  readonly text: string;
}

interface FileFilter extends Filter {
  readonly set: (filter: Filter) => void;
  readonly counts: Readonly<Record<Kind, number>>;
  readonly listed: readonly FileChange[];
}

/** @param commented paths of files with comments that are not sent yet. */
export function useFileFilter(files: readonly FileChange[], seen: Seen, commented: ReadonlySet<string>): FileFilter {
  const [{ kind, text }, set] = useState<Filter>({ kind: "all", text: "" });
  const byKind = useMemo(
    (): Readonly<Record<Kind, readonly FileChange[]>> => ({
      all: files,
      unseen: files.filter((file) => !seen.has(file)),
      commented: files.filter(({ path }) => commented.has(path)),
      renamed: files.filter(({ status }) => status === "renamed"),
      binary: files.filter(({ binary }) => binary),
    }),
    [files, seen, commented],
  );
  const listed = useMemo(() => {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length === 0) return byKind[kind];
    return byKind[kind].filter(({ path }) => words.every((word) => path.toLowerCase().includes(word)));
  }, [byKind, kind, text]);
  const counts = useMemo(
    () => Object.fromEntries(LABELS.map(([one]) => [one, byKind[one].length])) as Record<Kind, number>,
    [byKind],
  );
  return { kind, text, set, counts, listed };
}

export function FilterFields({ kind, text, set, counts }: FileFilter) {
  return (
    <>
      <div className="searchbox">
        <Icon name="search" small />
        <label className="sr" htmlFor="file-filter">
          Filter files
        </label>
        <input
          id="file-filter"
          type="text"
          placeholder="Filter by path"
          autoComplete="off"
          value={text}
          onChange={(event) => set({ kind, text: event.target.value })}
        />
      </div>
      <div className="chips" role="group" aria-label="Show">
        {LABELS.filter(([one]) => counts[one] > 0 || one === kind || one === "all" || one === "unseen").map(
          ([one, label]) => (
            <button
              key={one}
              className="chip"
              type="button"
              aria-pressed={one === kind}
              onClick={() => set({ kind: one, text })}
            >
              {label} <span className="n">{formatCount(counts[one])}</span>
            </button>
          ),
        )}
      </div>
    </>
  );
}
