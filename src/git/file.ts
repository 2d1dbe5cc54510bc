import type { Git } from "./git-process.ts";
import type { RepositoryFile } from "../core/ports/repositories.ts";

interface Wanted {
  readonly cwd: string;
  readonly sha: string;
  /** A plain name at the top of the tree. */
  readonly path: string;
  readonly maxBytes: number;
}

const unusable = (why: string): RepositoryFile => ({ kind: "unusable", why });

export async function readFileAt(git: Git, { cwd, sha, path, maxBytes }: Wanted): Promise<RepositoryFile> {
  const { text } = await git({ cwd, args: ["--literal-pathspecs", "ls-tree", "-z", "--long", sha, "--", path] });
  const [, mode, object, size] = /^(\d{6}) \w+ ([0-9a-f]{40,64}) +(\d+|-)\t/.exec(text) ?? [];
  if (mode === undefined || object === undefined) return { kind: "absent" };
  if (mode === "120000") return unusable("it is a symbolic link.");
  if (mode !== "100644" && mode !== "100755") return unusable("it is not a file.");
  if (Number(size) > maxBytes) return unusable(`it has ${size} bytes, and at most ${maxBytes} are read.`);
  const { bytes } = await git({ cwd, args: ["cat-file", "blob", object], maxBytes });
  try {
    return { kind: "text", text: new TextDecoder("utf-8", { fatal: true }).decode(bytes) };
  } catch {
    return unusable("it is not UTF-8.");
  }
}
