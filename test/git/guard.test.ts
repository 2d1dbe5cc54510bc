/** What the guard finds, on real repositories, and how long it takes. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { DEFAULT_GUARD } from "../../src/core/values/push-guard.ts";
import { openGit } from "../../src/git/git-process.ts";
import { findRandomValues } from "../../src/git/branch/guard/entropy.ts";
import { inspectChange } from "../../src/git/branch/guard/inspect.ts";
import { inspectLink, inspectPaths } from "../../src/git/branch/guard/paths.ts";
import { SecretSearch } from "../../src/git/branch/guard/secret-search.ts";
import { commitFiles, createRepository } from "../support/repository.ts";

const never = new AbortController().signal;
const search = new SecretSearch();
let dir: string;
beforeAll(() => void (dir = mkdtempSync(join(tmpdir(), "slipway-guard-"))));
afterAll(async () => {
  await search.close();
  rmSync(dir, { recursive: true, force: true });
});

/** Searches a new commit. @returns how long it took, and the longest turn of another, ms. */
async function inspectFiles(count: number): Promise<{ readonly ms: number; readonly longest: number }> {
  const cwd = join(dir, `files-${count}`);
  const base = await createRepository(cwd, { "a.txt": "a\n" });
  const text = "export const value = 42; // a line of code\n".repeat(40);
  const files = Object.fromEntries(Array.from({ length: count }, (_, i) => [`src/f${i}.ts`, `${i}\n${text}`]));
  const head = await commitFiles(cwd, files, "many");
  const call = { cwd, base, head, rules: DEFAULT_GUARD, secrets: [] };
  let longest = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }, 5);
  const startedAt = performance.now();
  expect(await inspectChange(openGit(join(dir, "git")), search, call, never)).toEqual([]);
  clearInterval(timer);
  return { ms: performance.now() - startedAt, longest: Math.max(longest, performance.now() - last) };
}

it("[S9] the search takes time in proportion to its files, and others have their turn after each batch", async () => {
  await inspectFiles(1);
  const [few, many] = [await inspectFiles(300), await inspectFiles(3_000)];
  const shown = [few, many].map(({ ms, longest }) => `${ms.toFixed(0)} ms, longest turn ${longest.toFixed(0)} ms`);
  console.log(`guard: 300 files in ${shown[0]}; 3,000 in ${shown[1]}`);
  // Ten times would be exact; a search of all pairs takes a hundred times.
  expect(many.ms / few.ms, shown.join("; ")).toBeLessThan(40);
  // 3,000 files are 15 batches.
  expect(many.longest / many.ms, shown.join("; ")).toBeLessThan(0.25);
});

it("[S9] names say what tools made and what leads out of the tree", () => {
  const entry = (path: string, newMode = "100644") => ({ oldMode: "000000", newMode, object: "", path });
  const kinds = (path: string, newMode?: string) =>
    inspectPaths([entry(path, newMode)], new Set()).map(({ kind }) => kind);
  expect(kinds("web/node_modules/x/index.js")).toEqual(["generated"]);
  expect(kinds("target")).toEqual([]);
  expect(kinds(".github/workflows/ci.yml")).toEqual(["workflow"]);
  expect(kinds("a/Cargo.lock")).toEqual(["lock_file"]);
  expect(kinds("nested", "160000")).toEqual(["nested_repository"]);
  expect(inspectPaths([entry("dist/a.js")], new Set(["dist"]))).toEqual([]);
  expect(inspectLink("a/b/link", "../../c")).toBeNull();
  expect(inspectLink("a/b/link", "../../../c")?.kind).toBe("link");
  expect(inspectLink("link", "/etc/passwd")?.kind).toBe("link");
});

it("[S9] random values with the name of a secret are found, words and references are not", () => {
  const value = ["9fK2mQz7Lw", "X4vB8nRt6Y", "pC3sD1gH5j"].join("");
  expect(findRandomValues(`a\napiKey: "${value}"\n`).map(({ line }) => line)).toEqual([2]);
  for (const text of [
    "token = process.env.SLIPWAY_GIT_TOKEN_OF_THE_SERVER",
    'password: "correct-horse-battery-staple-again"',
    'apiKey = "your-api-key-goes-here-12345678"',
    "const tokenLimit = calculateTokenLimitForModel2(options)",
  ])
    expect(findRandomValues(text)).toEqual([]);
});
