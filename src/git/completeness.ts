/**
 * Whether a bare repository holds every object that its refs reach.
 *
 * A proof is a file in a mirror: the names and sizes of the packs that were there when all refs
 * were known to be complete. Git moves a ref only after it has checked that what is new is
 * complete, so later fetches keep a proof true. It is void when one of its packs is missing or has
 * another size.
 */
import { readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { GitError } from "../core/lib/git-error.ts";
import type { Git } from "./git-process.ts";

const PROOF = "slipway-complete";
const Proof = z.object({
  /** Size in bytes of each pack by file name. */
  packs: z.record(z.string(), z.number()),
  /** When the mirror was last fetched in full, epoch ms; 0 = unknown. */
  fetchedAt: z.number(),
});
export type Proof = z.infer<typeof Proof>;

/** Characters of git's words that are kept. */
const PROBLEM_LENGTH = 500;

function listPacks(repository: string): Record<string, number> {
  const dir = join(repository, "objects", "pack");
  const names = readdirSync(dir).filter((name) => /\.(pack|idx)$/.test(name));
  return Object.fromEntries(names.map((name) => [name, statSync(join(dir, name)).size]));
}

/** The proof if it still holds; null otherwise. */
export function readProof(repository: string): Proof | null {
  try {
    const proof = Proof.parse(JSON.parse(readFileSync(join(repository, PROOF), "utf8")));
    const packs = listPacks(repository);
    return Object.entries(proof.packs).every(([name, size]) => packs[name] === size) ? proof : null;
  } catch {
    return null;
  }
}

/** To be called only when all refs are known to be complete. */
export function writeProof(repository: string, fetchedAt: number): void {
  const path = join(repository, PROOF);
  const proof: Proof = { packs: listPacks(repository), fetchedAt };
  writeFileSync(`${path}.new`, JSON.stringify(proof));
  renameSync(`${path}.new`, path);
}

export function dropProof(repository: string): void {
  rmSync(join(repository, PROOF), { force: true });
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
