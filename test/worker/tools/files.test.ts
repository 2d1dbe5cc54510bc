/** The file tools: their results and refusals, and their confinement to the workspace. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { execFileSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createTools } from "../../../worker/tools/toolbox.ts";
import type { ToolInput, ToolResult, ToolRunner } from "../../../worker/tools/tool.ts";

let dir: string;
let root: string;
let tools: ToolRunner;
beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), "sw-files-")));
  root = join(dir, "work");
  mkdirSync(root);
  writeFileSync(join(dir, "outside.txt"), "secret");
  tools = createTools(root, join(dir, "jobs"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const run = async (name: string, input: ToolInput): Promise<ToolResult> =>
  await tools.run(name, input, new AbortController().signal);
const put = (name: string, content: string | Buffer): void => writeFileSync(join(root, name), content);
const get = (name: string): string => readFileSync(join(root, name), "utf8");

it.each([
  ["a path with ..", "../outside.txt"],
  ["an absolute path", "/etc/hostname"],
  ["a link to a file", "link"],
  ["a path through a link to a folder", "up/outside.txt"],
  ["a new file through a link to a folder", "up/new.txt"],
  ["a link to nothing", "dangling"],
  ["a sibling whose name begins alike", "../work-2/x"],
  ["a NUL", "a\0b"],
  ["nothing", ""],
])("[O2] %s is refused by read, write, edit, grep and glob", async (_, path) => {
  symlinkSync(join(dir, "outside.txt"), join(root, "link"));
  symlinkSync(dir, join(root, "up"));
  symlinkSync(join(dir, "made.txt"), join(root, "dangling"));
  mkdirSync(join(dir, "work-2"));
  writeFileSync(join(dir, "work-2", "x"), "secret");
  for (const [name, more] of [
    ["read", {}],
    ["write", { content: "owned" }],
    ["edit", { old: "secret", new: "owned" }],
    ["grep", { pattern: "secr.t" }],
    ["glob", { pattern: "*" }],
  ] as const) {
    const result = await run(name, { path, ...more });
    expect(result.exitCode).toBe(1);
    expect(result.output).not.toContain("secret");
  }
  expect(readFileSync(join(dir, "outside.txt"), "utf8")).toBe("secret");
  expect(readFileSync(join(dir, "work-2", "x"), "utf8")).toBe("secret");
  expect(existsSync(join(dir, "new.txt")) || existsSync(join(dir, "made.txt"))).toBe(false);
});

it("links that stay inside and absolute paths in the workspace are accepted", async () => {
  put("a.txt", "inside");
  symlinkSync("a.txt", join(root, "link"));
  expect((await run("read", { path: "link" })).output).toContain("inside");
  expect((await run("read", { path: join(root, "a.txt") })).output).toContain("inside");
});

it("a pipe does not block the tools", async () => {
  execFileSync("/bin/bash", ["-c", "mkfifo pipe"], { cwd: root });
  for (const [name, more] of [
    ["read", {}],
    ["write", { content: "x" }],
    ["edit", { old: "a", new: "b" }],
  ] as const) {
    expect(await run(name, { path: "pipe", ...more })).toMatchObject({ exitCode: 1 });
  }
});

it("read numbers lines, accepts a range, cuts long output and names the line to continue from", async () => {
  put("a.txt", "one\r\ntwo\nthree\n");
  expect((await run("read", { path: "a.txt" })).output).toBe("     1\tone\n     2\ttwo\n     3\tthree");
  expect((await run("read", { path: "a.txt", start: 2, end: 2 })).output).toBe("     2\ttwo");
  put("long.txt", "line\n".repeat(5_000));
  const long = await run("read", { path: "long.txt" });
  expect(long.truncated).toBe(true);
  expect(long.output).toContain('"start": 2001');
  put("wide.txt", "w".repeat(100_000));
  expect((await run("read", { path: "wide.txt" })).output.length).toBeLessThan(2_200);
  expect(await run("read", { path: "a.txt", start: 9 })).toMatchObject({ exitCode: 1 });
});

it("read refuses binary files and lists folders", async () => {
  put("b.bin", Buffer.from([1, 0, 2]));
  expect((await run("read", { path: "b.bin" })).output).toContain("binary");
  mkdirSync(join(root, "sub"));
  expect((await run("read", { path: "." })).output).toBe("b.bin\nsub/");
  expect(await run("read", { path: "missing" })).toMatchObject({ exitCode: 1, output: '"missing" does not exist.' });
});

it("edit preserves line ends, byte order mark and mode, and treats the text literally", async () => {
  put("dos.txt", "\ufeffone\r\ntwo\r\nthree\r\n");
  chmodSync(join(root, "dos.txt"), 0o755);
  expect(await run("edit", { path: "dos.txt", old: "one\ntwo", new: "1\n$& $1 2" })).toMatchObject({ exitCode: 0 });
  expect(get("dos.txt")).toBe("\ufeff1\r\n$& $1 2\r\nthree\r\n");
  expect(statSync(join(root, "dos.txt")).mode & 0o777).toBe(0o755);
});

it("edit refuses a text that is missing, ambiguous, unchanged or in a binary file, and shows the nearest lines", async () => {
  put("a.txt", "const alpha = compute(1);\nx\nx\ntail  \n");
  expect((await run("edit", { path: "a.txt", old: "x", new: "y" })).output).toContain(
    '2 times in "a.txt" (lines 2, 3)',
  );
  expect((await run("edit", { path: "a.txt", old: "const alpha = compute(2);", new: "y" })).output).toContain(
    "line 1:\n     1\tconst alpha = compute(1);",
  );
  expect((await run("edit", { path: "a.txt", old: "tail\n\n", new: "y" })).output).toContain("is not in");
  expect((await run("edit", { path: "a.txt", old: "x\ntail\n", new: "y" })).output).toContain(
    "white space at line ends, at line 3",
  );
  expect(await run("edit", { path: "a.txt", old: "x", new: "x" })).toMatchObject({ exitCode: 1 });
  expect(await run("edit", { path: "a.txt", old: "", new: "x" })).toMatchObject({ exitCode: 1 });
  put("latin.txt", Buffer.from([0x61, 0xe9]));
  expect((await run("edit", { path: "latin.txt", old: "a", new: "b" })).output).toContain("UTF-8");
  expect(get("a.txt")).toBe("const alpha = compute(1);\nx\nx\ntail  \n");
});

it("write creates folders, replaces files, keeps the mode, and refuses a folder", async () => {
  expect((await run("write", { path: "x/y/z.txt", content: "1" })).output).toContain("Created");
  chmodSync(join(root, "x/y/z.txt"), 0o700);
  expect((await run("write", { path: "x/y/z.txt", content: "22" })).output).toContain("Replaced");
  expect(get("x/y/z.txt")).toBe("22");
  expect(statSync(join(root, "x/y/z.txt")).mode & 0o777).toBe(0o700);
  expect(await run("write", { path: "x", content: "" })).toMatchObject({ exitCode: 1 });
  expect(await run("write", { path: "x/y/z.txt/under", content: "" })).toMatchObject({ exitCode: 1 });
});

it("an unknown tool and an invalid input are error results, not failures of the worker", async () => {
  expect((await run("toString", {})).output).toContain("no tool");
  expect((await run("read", { path: 5 })).output).toContain('"path" must be a string');
});

it("[O9] several edits are made in one call, in their order, all or none; the result shows the new text", async () => {
  put("m.txt", "a\nb\nc\nd\ne\nf\ng\nh\ni\nb2\n");
  const edits = [
    { old: "c\n", new: "C1\nC2\n" },
    { old: "C2", new: "C3" },
    { old: "h\n", new: "" },
  ];
  const done = await run("edit", { path: "m.txt", edits });
  expect(get("m.txt")).toBe("a\nb\nC1\nC3\nd\ne\nf\ng\ni\nb2\n");
  expect(done.output).toMatch(/^Edited m\.txt at 3 places\. The new text:\n/);
  expect(done.output).toContain("     3\tC1\n     4\tC3\n     5\td");
  expect(done.output).toContain("     8\tg\n     9\ti");
  const failed = await run("edit", {
    path: "m.txt",
    edits: [
      { old: "a", new: "A" },
      { old: "absent", new: "x" },
    ],
  });
  expect(failed).toMatchObject({ exitCode: 1, output: expect.stringContaining("Edit 2 of 2: nothing was changed.") });
  expect(get("m.txt")).toMatch(/^a\n/);
  for (const wrong of [{ edits: [] }, { edits: [{ old: "a" }] }, { edits, old: "a", new: "b" }, { edits: "a" }])
    expect(await run("edit", { path: "m.txt", ...wrong })).toMatchObject({ exitCode: 1 });
});

it("[O9] an edit that differs in white space only is told what the file has", async () => {
  put("w.txt", "if x:\n\treturn 1  \n\telse\n");
  const tabs = await run("edit", { path: "w.txt", old: "if x:\n    return 1\n    else", new: "y" });
  expect(tabs.output).toContain("only in tabs and spaces, at line 1");
  expect(tabs.output).toContain("→return 1··");
  const ends = await run("edit", { path: "w.txt", old: "\treturn 1\n\telse", new: "y" });
  expect(ends.output).toContain("only in white space at line ends, at line 2");
  expect(get("w.txt")).toBe("if x:\n\treturn 1  \n\telse\n");
});

it("[O9] a file that changed since the agent saw it is not replaced, and an edit says so", async () => {
  put("s.txt", "one\n");
  await run("read", { path: "s.txt" });
  put("s.txt", "one\ntwo\n");
  const refused = await run("write", { path: "s.txt", content: "three\n" });
  expect(refused).toMatchObject({ exitCode: 1, output: expect.stringContaining("has changed since you last saw it") });
  expect((await run("edit", { path: "s.txt", old: "one", new: "1" })).output).toContain("It had changed");
  expect((await run("edit", { path: "s.txt", old: "two", new: "2" })).output).not.toContain("It had changed");
  expect(await run("write", { path: "s.txt", content: "three\n" })).toMatchObject({ exitCode: 0 });
  put("never-seen.txt", "x\n");
  expect(await run("write", { path: "never-seen.txt", content: "y\n" })).toMatchObject({ exitCode: 0 });
});

it("[O3] a long line is paged", async () => {
  put("long.txt", `short\n${"x".repeat(30_000)}END\n`);
  expect((await run("read", { path: "long.txt" })).output).toContain('continue with "start": 2, "column": 2001');
  const page = await run("read", { path: "long.txt", start: 2, column: 2_001 });
  expect(page.output).toMatch(
    /^Line 2, characters 2001 to 22000 of 30003:\nx+\n\.\.\. continue with "start": 2, "column": 22001$/,
  );
  expect((await run("read", { path: "long.txt", start: 2, column: 22_001 })).output).toMatch(/xEND$/);
  expect(await run("read", { path: "long.txt", start: 2, column: 30_004 })).toMatchObject({ exitCode: 1 });
});
