/** The tip of a branch of an upstream repository. */
import { TaskFailure } from "../../core/failure.ts";
import { isBranchName } from "./branch-name.ts";

export interface Tip {
  readonly base: string;
  readonly baseSha: string;
}

const OBJECT_ID = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
const SHA1_LENGTH = 40;

/**
 * Parses the tip from the output of `ls-remote --symref`. Its pattern also matches longer ref names
 * with the same suffix.
 */
export function readTip(text: string, asked: string | null): Tip {
  const lines = text.split("\n").map((line) => line.split("\t"));
  const ref = asked === null ? "HEAD" : `refs/heads/${asked}`;
  const baseSha = lines.find(([value = "", name]) => name === ref && OBJECT_ID.test(value))?.[0];
  const target = lines.find(([value = "", name]) => name === "HEAD" && value.startsWith("ref: refs/heads/"))?.[0];
  const base = asked ?? target?.slice("ref: refs/heads/".length) ?? null;
  if (base !== null && !isBranchName(base))
    throw new TaskFailure("branch_not_found", {
      detail: `The repository's default branch has a name that cannot be used: ${JSON.stringify(base.slice(0, 100))}. Name another branch as the base.`,
    });
  if (base !== null && baseSha !== undefined) {
    if (baseSha.length === SHA1_LENGTH) return { base, baseSha };
    throw new TaskFailure("repo_not_found", { detail: "It uses SHA-256 object names, which are not supported." });
  }
  throw new TaskFailure("branch_not_found", {
    detail:
      asked === null ? "The repository is empty, or has no default branch." : `The requested branch is "${asked}".`,
  });
}
