/** Changes that are hard to show: other types, other encodings, content that looks like a patch. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { readDiff, readPatch } from "../../src/git/diff.ts";
import { openGit, type Git } from "../../src/git/git-process.ts";
import { git as runGit } from "../support/repository.ts";

let dir: string;
let work: string;
let run: Git;
let base: string;
let allBinary: string;

const git = (...args: string[]): Promise<string> => runGit(work, ...args);
const put = (name: string | Buffer, content: string | Buffer): void =>
  writeFileSync(Buffer.concat([Buffer.from(`${work}/`), Buffer.from(name)]), content);
async function commit(): Promise<string> {
  await git("add", "-A");
  await git("commit", "-q", "-m", "step");
  return await git("rev-parse", "HEAD");
}
/** The tree of `head`, reached from `base` by the patch alone. */
async function applies(head: string): Promise<string> {
  const text = await readPatch(run, join(work, ".git"), base, head, allBinary);
  await git("checkout", "-q", "--force", base);
  const file = join(dir, "patch");
  writeFileSync(file, text);
  await git("apply", "--index", file);
  return await git("write-tree");
}

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-diff-"));
  work = join(dir, "work");
  run = openGit(join(dir, "git"));
  allBinary = join(dir, "all.attributes");
  writeFileSync(allBinary, "* -diff\n");
  await runGit(dir, "init", "-q", "-b", "main", work);
  put("a.txt", "a\n");
  put("m.txt", "m\n");
  put("z.txt", "z\n");
  base = await commit();
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

it("a file that becomes a link keeps both halves, and the patches after it stay with their files", async () => {
  rmSync(join(work, "a.txt"));
  symlinkSync("z.txt", join(work, "a.txt"));
  put("z.txt", "zz\n");
  const head = await commit();
  const { files } = await readDiff(run, join(work, ".git"), base, head);
  expect(files.map(({ path, status }) => [path, status])).toEqual([
    ["a.txt", "type_changed"],
    ["z.txt", "modified"],
  ]);
  expect(files[0]?.patch).toMatch(/deleted file mode 100644[\s\S]*new file mode 120000/);
  expect(files[1]?.patch).toMatch(/^diff --git a\/z.txt b\/z.txt\n[\s\S]*\+zz\n$/);
  expect(await applies(head)).toBe(await git("rev-parse", `${head}^{tree}`));
});

it("content cannot pass for the beginning of another file's patch", async () => {
  for (const brk of ["\r", "\u2028", "\u2029", "\u0085", "\v", "\f"])
    put(`a${brk.codePointAt(0)}.txt`, `x${brk}diff --git a/evil b/evil\n`);
  put("z.txt", "honest\n");
  const head = await commit();
  const { files } = await readDiff(run, join(work, ".git"), base, head);
  expect(files).toHaveLength(7);
  for (const file of files)
    expect(file.patch?.startsWith(`diff --git a/${file.path} b/${file.path}\n`), file.path).toBe(true);
  expect(await applies(head)).toBe(await git("rev-parse", `${head}^{tree}`));
});

it("text in another encoding, and under such a name, survives the patch", async () => {
  put("a.txt", Buffer.from([0x63, 0x61, 0x66, 0xe9, 0x0a]));
  put(Buffer.from([0x6e, 0xe9, 0x2e, 0x74]), "name\n");
  put("m.txt", "utf-8 ☃\n");
  const head = await commit();
  expect(await applies(head)).toBe(await git("rev-parse", `${head}^{tree}`));
  expect(readFileSync(join(work, "a.txt"))).toEqual(Buffer.from([0x63, 0x61, 0x66, 0xe9, 0x0a]));
});

it("a patch that is too large is an error, not half a patch", async () => {
  put("big.txt", "0123456789\n".repeat(1_000_000));
  const head = await commit();
  await expect(readPatch(run, join(work, ".git"), base, head, allBinary)).rejects.toMatchObject({
    code: "payload_too_large",
  });
});

it("[S6] the repository's own attributes and drivers run nothing", async () => {
  mkdirSync(join(work, ".git/info"), { recursive: true });
  writeFileSync(join(work, ".git/info/attributes"), "*.txt diff=evil\n");
  await git("config", "diff.evil.textconv", `touch ${join(dir, "ran")}; cat`);
  await git("config", "diff.evil.command", `touch ${join(dir, "ran")}`);
  put("a.txt", "changed\n");
  const head = await commit();
  const { files } = await readDiff(run, join(work, ".git"), base, head);
  expect(files.find(({ path }) => path === "a.txt")?.patch).toContain("+changed");
  expect(() => readFileSync(join(dir, "ran"))).toThrow();
});
