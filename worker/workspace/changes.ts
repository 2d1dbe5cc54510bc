/** The work so far as text, for an agent that begins again in the middle of it, and a reviewer. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { errorMessage } from "../../src/core/error.ts";
import type { Redaction } from "../../src/core/lib/json/redaction.ts";
import { stripHidden } from "../lib/hidden-characters.ts";
import { truncate } from "../lib/text.ts";
import { git } from "./git.ts";

/** Characters of the diff. */
const DIFF_LIMIT = 30_000;
const DIFF = ["diff", "--no-color", "--no-ext-diff", "--no-textconv"];

/**
 * A summary and the diff since the base, with new files that git does not ignore. The agent's index
 * is not touched. Empty when there are none. Rejects only with the signal's reason.
 */
export async function readChanges(
  { root, baseSha, secrets }: { readonly root: string; readonly baseSha: string; readonly secrets: Redaction },
  signal: AbortSignal,
  limit: number = DIFF_LIMIT,
): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "slipway-changes-"));
  const options = { cwd: root, signal, indexFile: join(dir, "index") };
  try {
    await git(["read-tree", "HEAD"], options);
    await git(["add", "--all", "--intent-to-add"], options);
    const stat = await git([...DIFF, "--stat", baseSha, "--"], options);
    const diff = secrets.redact(await git([...DIFF, baseSha, "--"], options));
    const more = diff.length > limit ? `\n[... ${diff.length - limit} more characters ...]` : "";
    return stripHidden([stat, truncate(diff, limit) + more].filter((part) => part !== "").join("\n\n")).text;
  } catch (thrown) {
    signal.throwIfAborted();
    return `[not available: ${errorMessage(thrown)}]`;
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
