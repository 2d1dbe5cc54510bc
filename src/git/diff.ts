/** What changed between two commits of a bare repository. Read by plumbing that runs no filter, textconv or external diff. */
import type { Diff, DiffFile } from "../ports.ts";
import type { Git } from "./run.ts";

const FILES_LIMIT = 3_000;
const LIST_BYTES = 4 * 2 ** 20;
const PATCH_BYTES = 256 * 1024;
const WHOLE_PATCH_BYTES = 10 * 2 ** 20;
const PLAIN = ["--no-color", "--no-ext-diff", "--no-textconv", "-M"] as const;

const STATUS: Readonly<Record<string, DiffFile["status"]>> = {
  A: "added",
  M: "modified",
  D: "deleted",
  R: "renamed",
  C: "copied",
  T: "type_changed",
};

export async function diff(git: Git, cwd: string, base: string, head: string): Promise<Diff> {
  const list = await git({ cwd, args: ["diff", ...PLAIN, "--raw", "--numstat", "-z", base, head, "--"], maxBytes: LIST_BYTES });
  const all = readList(list.text);
  const { text, truncated } = await git({ cwd, args: ["diff", ...PLAIN, base, head, "--"], maxBytes: PATCH_BYTES });
  const patches = text.split(/^(?=diff --git )/m);
  // The last patch of a cut text is not whole.
  if (truncated) patches.pop();
  const files = all.slice(0, FILES_LIMIT).map((file, i) => ({ ...file, patch: file.binary ? null : (patches[i] ?? null) }));
  return { base, head, files, truncated: truncated || list.truncated || all.length > FILES_LIMIT };
}

export async function patch(git: Git, cwd: string, base: string, head: string): Promise<string> {
  const { text } = await git({ cwd, args: ["diff", ...PLAIN, "--binary", "--full-index", base, head, "--"], maxBytes: WHOLE_PATCH_BYTES });
  return text;
}

type Listed = Omit<DiffFile, "patch">;

/** `--raw --numstat -z`: first every raw entry, then every count, both in the same order. */
function readList(text: string): Listed[] {
  const fields = text.split("\0");
  const raw: { path: string; oldPath: string | null; status: DiffFile["status"] }[] = [];
  let at = 0;
  while (fields[at]?.startsWith(":")) {
    const letter = fields[at]?.split(" ").at(-1)?.[0] ?? "M";
    const two = letter === "R" || letter === "C";
    const [first = "", second = ""] = fields.slice(at + 1, at + 3);
    raw.push({ path: two ? second : first, oldPath: two ? first : null, status: STATUS[letter] ?? "modified" });
    at += two ? 3 : 2;
  }
  return raw.map((file) => {
    const [added = "0", deleted = "0", path = ""] = (fields[at] ?? "").split("\t");
    at += path === "" ? 3 : 1;
    const binary = added === "-";
    return { ...file, additions: binary ? 0 : Number(added), deletions: binary ? 0 : Number(deleted), binary };
  });
}
