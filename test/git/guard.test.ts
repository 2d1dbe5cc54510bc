/** What the guard finds, on real repositories, and how long it takes. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { DEFAULT_GUARD } from "../../src/core/values/push-guard.ts";
import { openGit } from "../../src/git/git-process.ts";
import { findRandomValues } from "../../src/git/branch/guard/entropy.ts";
import { inspectChange, type InspectCall } from "../../src/git/branch/guard/inspect.ts";
import { inspectLink, inspectPaths } from "../../src/git/branch/guard/paths.ts";
import { SecretSearch } from "../../src/git/branch/guard/secret-search.ts";
import { commitFiles, createRepository } from "../support/repository.ts";

const never = new AbortController().signal;

/** Calls back when a batch begins. */
class WatchedSearch extends SecretSearch {
  onBatch = (): void => undefined;

  override search(...batch: Parameters<SecretSearch["search"]>): ReturnType<SecretSearch["search"]> {
    this.onBatch();
    return super.search(...batch);
  }
}

const search = new WatchedSearch();
let dir: string;
beforeAll(() => void (dir = mkdtempSync(join(tmpdir(), "slipway-guard-"))));
afterAll(async () => {
  await search.close();
  rmSync(dir, { recursive: true, force: true });
});

interface Inspected {
  readonly ms: number;
  /** Turns of the loop in which a batch began. */
  readonly turns: number;
}

/** Searches a new commit twice. @returns the least of both, as a busy machine may delay one. */
async function inspectFiles(count: number): Promise<Inspected> {
  const cwd = join(dir, `files-${count}`);
  const base = await createRepository(cwd, { "a.txt": "a\n" });
  const text = "export const value = 42; // a line of code\n".repeat(40);
  const files = Object.fromEntries(Array.from({ length: count }, (_, i) => [`src/f${i}.ts`, `${i}\n${text}`]));
  const head = await commitFiles(cwd, files, "many");
  const call = { cwd, base, head, rules: DEFAULT_GUARD, secrets: [] };
  const [first, second] = [await inspect(call), await inspect(call)];
  return { ms: Math.min(first.ms, second.ms), turns: Math.min(first.turns, second.turns) };
}

async function inspect(call: InspectCall): Promise<Inspected> {
  let turn = 0;
  const timer = setInterval(() => (turn += 1), 1);
  const begun = new Set<number>();
  search.onBatch = () => void begun.add(turn);
  const startedAt = performance.now();
  expect(await inspectChange(openGit(join(dir, "git")), search, call, never)).toEqual([]);
  clearInterval(timer);
  return { ms: performance.now() - startedAt, turns: begun.size };
}

it("[S9] the search takes time in proportion to its files, and others have their turn after each batch", async () => {
  await inspectFiles(1);
  const [few, many] = [await inspectFiles(300), await inspectFiles(3_000)];
  const shown = `300 files in ${few.ms.toFixed(0)} ms; 3,000 in ${many.ms.toFixed(0)} ms`;
  console.log(`guard: ${shown}`);
  // Ten times would be exact; a search of all pairs takes a hundred times.
  expect(many.ms / few.ms, shown).toBeLessThan(40);
  // 3,000 files are 15 batches.
  expect(many.turns).toBeGreaterThanOrEqual(15);
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
