/** The work so far as text, for an agent that begins a new conversation in the middle of it. */
import { errorMessage } from "../../src/core/error.ts";
import { stripHidden } from "../lib/hidden-characters.ts";
import { truncate } from "../lib/text.ts";
import { git } from "./git.ts";

/** Characters of the diff, and of the names of new files. */
const DIFF_LIMIT = 30_000;
const NAMES_LIMIT = 4_000;
const DIFF = ["diff", "--no-color", "--no-ext-diff", "--no-textconv"];

/** Empty when there are none. Rejects only with the signal's reason. */
export async function readChanges(root: string, baseSha: string, signal: AbortSignal): Promise<string> {
  const read = async (args: readonly string[]): Promise<string> => {
    try {
      return await git(args, { cwd: root, signal });
    } catch (thrown) {
      signal.throwIfAborted();
      return `[not available: ${errorMessage(thrown)}]`;
    }
  };
  const [stat, diff, added] = [
    await read([...DIFF, "--stat", baseSha, "--"]),
    await read([...DIFF, baseSha, "--"]),
    await read(["ls-files", "--others", "--exclude-standard"]),
  ];
  const parts = [
    stat,
    diff.length > DIFF_LIMIT
      ? `${truncate(diff, DIFF_LIMIT)}\n[... ${diff.length - DIFF_LIMIT} more characters ...]`
      : diff,
    added === "" ? "" : `New files that git does not track yet:\n${truncate(added, NAMES_LIMIT)}`,
  ];
  return stripHidden(parts.filter((part) => part !== "").join("\n\n")).text;
}
