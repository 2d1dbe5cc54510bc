/**
 * grep and glob, with ripgrep (where it is installed) and without; hidden characters; the tool
 * definitions for models.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { git } from "../../support/repository.ts";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { stripHidden } from "../../../worker/lib/hidden-characters.ts";
import { toolSchemas } from "../../../worker/tools/schemas.ts";
import { createTools, type Toolbox } from "../../../worker/tools/toolbox.ts";
import type { ToolInput, ToolResult } from "../../../worker/tools/tool.ts";

let dir: string;
let root: string;
let tools: Toolbox;
const path = process.env["PATH"];
beforeEach(async () => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), "sw-search-")));
  root = join(dir, "work");
  mkdirSync(root);
  await git(root, "init", "-q");
  put(".gitignore", "ignored/\n");
  put("ignored/a.ts", "needle\n");
  put("src/a.ts", "one\nneedle one\n");
  put("src/deep/b.js", "Needle two\n");
  put("docs/ä b.md", "a needle (x)\n");
  put(".github/c.yml", "needle: three\n");
  put("blob.bin", Buffer.from("needle\0needle"));
  await git(root, "add", "src/a.ts");
  writeFileSync(join(dir, "outside.ts"), "needle outside\n");
  symlinkSync(dir, join(root, "up"));
  tools = createTools(root, join(dir, "jobs"));
});
afterEach(() => {
  process.env["PATH"] = path;
  rmSync(dir, { recursive: true, force: true });
});

function put(name: string, content: string | Buffer): void {
  mkdirSync(dirname(join(root, name)), { recursive: true });
  writeFileSync(join(root, name), content);
}
const run = async (name: string, input: ToolInput, signal = new AbortController().signal): Promise<ToolResult> =>
  await tools.run(name, input, signal);
const grep = async (input: ToolInput): Promise<string[]> => (await run("grep", input)).output.split("\n").sort();

const hasRipgrep = spawnSync("rg", ["--version"]).status === 0;
const programs = [{ program: "git" }, { program: "ripgrep" }];
describe.each(programs)("grep with $program", ({ program }) => {
  beforeEach(({ skip }) => {
    if (program === "ripgrep") return skip(!hasRipgrep, "ripgrep is not installed");
    mkdirSync(join(dir, "bin"));
    symlinkSync(
      execFileSync("/bin/sh", ["-c", "command -v git"], { encoding: "utf8" }).trim(),
      join(dir, "bin", "git"),
    );
    process.env["PATH"] = join(dir, "bin");
  });

  it("[O2] it finds lines in the workspace, in new files and hidden folders too, and obeys .gitignore", async () => {
    expect(await grep({ pattern: "needle" })).toEqual([
      ".github/c.yml:1:needle: three",
      "docs/ä b.md:1:a needle (x)",
      "src/a.ts:2:needle one",
    ]);
  });

  it("path, glob, ignoreCase, literal, names and counts", async () => {
    expect(await grep({ pattern: "needle", path: "src", ignoreCase: true })).toEqual([
      "src/a.ts:2:needle one",
      "src/deep/b.js:1:Needle two",
    ]);
    expect(await grep({ pattern: "needle", glob: "*.ts" })).toEqual(["src/a.ts:2:needle one"]);
    expect(await grep({ pattern: "Needle", glob: "src/**/*.js" })).toEqual(["src/deep/b.js:1:Needle two"]);
    expect(await grep({ pattern: "Needle", path: "src", glob: "deep/*.js" })).toEqual(["src/deep/b.js:1:Needle two"]);
    expect(await grep({ pattern: "needle", path: "src/a.ts" })).toEqual(["src/a.ts:2:needle one"]);
    expect(await grep({ pattern: "(x)", literal: true })).toEqual(["docs/ä b.md:1:a needle (x)"]);
    expect(await grep({ pattern: "\\bneedle\\s\\w{3}$", mode: "files" })).toEqual(["src/a.ts"]);
    expect(await grep({ pattern: "n", path: "src/a.ts", mode: "count" })).toEqual(["src/a.ts:2"]);
    expect(await grep({ pattern: "-e", literal: true })).toHaveLength(1);
    expect(await grep({ pattern: "needle", path: "src", context: 1 })).toEqual([
      "src/a.ts-1-one",
      "src/a.ts:2:needle one",
    ]);
  });

  it("[O3] the output is bounded and explains how to narrow the search", async () => {
    put("many.txt", "needle\n".repeat(100_000));
    put("wide.txt", `needle ${"w".repeat(1_000_000)}\n`);
    const many = await run("grep", { pattern: "needle", path: "many.txt", limit: 5 });
    expect(many).toMatchObject({ exitCode: 0, truncated: true });
    expect(many.output.split("\n")).toHaveLength(6);
    expect(many.output).toContain('narrow the search with "path"');
    expect((await run("grep", { pattern: "needle", path: "wide.txt" })).output.length).toBeLessThan(500);
  });

  it("no match and an invalid pattern are error results", async () => {
    expect(await run("grep", { pattern: "nowhere-at-all" })).toMatchObject({ exitCode: 0 });
    expect((await run("grep", { pattern: "nowhere-at-all" })).output).toContain("Nothing in the workspace matches");
    expect(await run("grep", { pattern: "(" })).toMatchObject({ exitCode: 1 });
    expect((await run("grep", { pattern: "x", path: "missing" })).output).toBe('"missing" does not exist.');
    expect((await run("grep", { pattern: "x", files: "*.ts" })).output).toContain(
      'grep has no input "files". Its inputs are: pattern, path',
    );
  });
});

it("glob finds files by name, most recently changed first, and obeys .gitignore", async () => {
  const at = (name: string, seconds: number): void => utimesSync(join(root, name), seconds, seconds);
  at("src/a.ts", 1_000);
  at("src/deep/b.js", 2_000);
  at("docs/ä b.md", 3_000);
  const glob = async (input: ToolInput): Promise<string> => (await run("glob", input)).output;
  expect(await glob({ pattern: "*.{ts,js,md}" })).toBe("docs/ä b.md\nsrc/deep/b.js\nsrc/a.ts");
  expect(await glob({ pattern: "src/**/*.ts" })).toBe("src/a.ts");
  expect(await glob({ pattern: "*.js", path: "src" })).toBe("src/deep/b.js");
  expect(await glob({ pattern: "*.{ts,js}", limit: 1 })).toMatch(/^src\/deep\/b\.js\n\[the first 1 of 2 files/);
  expect(await glob({ pattern: "*.rs" })).toContain("No file name matches");
  expect(await run("glob", { pattern: "../*" })).toMatchObject({ exitCode: 1 });
  rmSync(join(root, "src/a.ts"));
  expect(await glob({ pattern: "*.ts" })).toContain("No file");
});

it("[O3] hidden characters are removed from the output of every tool, and counted", async () => {
  put("trick.txt", "if admin\u202e {\u2066 // ok\u{e0041}\u{e0042}\u200b\n");
  const shown = await run("read", { path: "trick.txt" });
  expect(shown.output).toBe(
    "     1\tif admin { // ok\n[5 hidden characters were left out: zero-width, direction or tag]",
  );
  expect((await run("bash", { command: "cat trick.txt" })).output).toContain("if admin { // ok");
  expect((await run("grep", { pattern: "admin" })).output).toContain("5 hidden characters were");
  const missed = await run("edit", { path: "trick.txt", old: "if admin { // ok", new: "x" });
  expect(missed.output).toContain("line 1, but with hidden characters");
  expect(stripHidden("👩‍💻 می‌خواهم क्‍ष ok")).toEqual({ text: "👩‍💻 می‌خواهم क्‍ष ok", count: 0 });
  expect(stripHidden("pass\u200dword\u200c")).toEqual({ text: "password", count: 2 });
});

it("every tool has a definition for models, and accepts the inputs of its schema", async () => {
  const extra = { name: "mcp__x__y", description: "d", inputSchema: { type: "object" } };
  const schemas = toolSchemas([extra]);
  expect(schemas.map(({ name }) => name)).toEqual([
    "bash",
    "job",
    "read",
    "edit",
    "write",
    "grep",
    "glob",
    "mcp__x__y",
  ]);
  for (const { name, inputSchema } of schemas.slice(0, -1)) {
    const result = await run(name, {});
    expect(result, name).toMatchObject({ exitCode: 1 });
    const [first] = inputSchema["required"] as string[];
    expect(result.output).toContain(`"${first}" must be`);
  }
});
