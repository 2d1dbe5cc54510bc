/**
 * Whether a bare repository holds every object that its refs reach.
 *
 * A proof is a file in a mirror: the names and sizes of the packs that were there when all refs
 * were known to be complete. Git moves a ref only after it has checked that what is new is
 * complete, so later fetches keep a proof true. It is void when one of its packs is missing or has
 * another size.
 *
 * A walk from the refs does not read file contents. So a repository that could not be read although
 * its walk finds nothing missing is marked as suspect, and no walk clears that mark.
 */
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, parse } from "node:path";
import { z } from "zod";
import { GitError } from "../../core/lib/git/git-error.ts";
import type { Git } from "../git-process.ts";

const PROOF = "slipway-complete";
/** The mark of `distrust`. */
const SUSPECT = "slipway-suspect";
/** Size in bytes of each pack by file name. */
const Proof = z.object({ packs: z.record(z.string(), z.number()) });

/** Characters of git's words that are kept. */
const PROBLEM_LENGTH = 500;

/** None also without their folder: a copy of a repository may lack its empty folders. */
export function listPacks(repository: string): Record<string, number> {
  const dir = join(repository, "objects", "pack");
  if (!existsSync(dir)) return {};
  const names = readdirSync(dir).filter((name) => /\.(pack|idx)$/.test(name));
  return Object.fromEntries(names.map((name) => [name, statSync(join(dir, name)).size]));
}

export function isProven(repository: string): boolean {
  try {
    const proof = Proof.parse(JSON.parse(readFileSync(join(repository, PROOF), "utf8")));
    const packs = listPacks(repository);
    return !isSuspect(repository) && Object.entries(proof.packs).every(([name, size]) => packs[name] === size);
  } catch {
    return false;
  }
}

/**
 * To be called only when all refs are known to be complete.
 * @param without names (without endings) of packs that the proof must not need.
 */
export function writeProof(repository: string, without: readonly string[] = []): void {
  const path = join(repository, PROOF);
  const packs = Object.entries(listPacks(repository)).filter(([name]) => !without.includes(parse(name).name));
  writeFileSync(`${path}.new`, JSON.stringify({ packs: Object.fromEntries(packs) }));
  renameSync(`${path}.new`, path);
}

export function dropProof(repository: string): void {
  rmSync(join(repository, PROOF), { force: true });
}

export function isSuspect(repository: string): boolean {
  return existsSync(join(repository, SUSPECT));
}

export function setSuspect(repository: string, suspect: boolean): void {
  if (!suspect) rmSync(join(repository, SUSPECT), { force: true });
  else if (existsSync(repository)) writeFileSync(join(repository, SUSPECT), "");
}

/**
 * Walks from all refs and checks that each object exists; file contents are not read.
 * @param besides `alternates`: what the refs of the alternates reach counts as complete.
 * @returns git's words about what is missing, or null.
 */
export async function findMissing(
  git: Git,
  repository: string,
  besides: "nothing" | "alternates",
  signal: AbortSignal,
  progress?: (text: string) => void,
): Promise<string | null> {
  // The progress also keeps a long walk from exceeding the idle timeout.
  const walk = ["rev-list", "--objects", "--quiet", "--progress=Checking objects", "--all"];
  const args =
    besides === "nothing"
      ? walk
      : ["-c", "core.alternateRefsPrefixes=refs/heads/", ...walk, "--not", "--alternate-refs"];
  try {
    await git({ cwd: repository, signal, args, progress });
    return null;
  } catch (error) {
    if (!(error instanceof GitError)) throw error;
    return error.output.trim().slice(0, PROBLEM_LENGTH) || "git cannot read it";
  }
}
