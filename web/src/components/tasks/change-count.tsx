/** How large a change is. */
import { formatCount, pluralize } from "../../lib/format.ts";

interface Lines {
  readonly additions: number;
  readonly deletions: number;
}

export function LineCount({ additions, deletions }: Lines) {
  return (
    <span>
      <span className="add">+{formatCount(additions)}</span> <span className="del">−{formatCount(deletions)}</span>
    </span>
  );
}

/** Lines; of a change of files that are no text, or only moved, the number of files. */
export function ChangeCount({ files, additions, deletions }: Lines & { readonly files: number }) {
  if (additions + deletions === 0) return <span>{pluralize(files, "file")}</span>;
  return <LineCount additions={additions} deletions={deletions} />;
}
