import { TaskFailure } from "../core/failure.ts";
import { resolvePin } from "./host-pinning.ts";
import type { Git } from "./git-process.ts";
import { classifyPushError } from "./git-errors.ts";
import type { GitAuth } from "../core/ports/repositories.ts";

export interface PushRequest {
  /** The task repository. */
  readonly cwd: string;
  readonly repo: string;
  readonly auth: GitAuth | null;
  readonly sha: string;
  readonly branch: string;
  /** What the branch must point at now, if it exists; null = it must not exist. */
  readonly expect: string | null;
}

/** A branch that is gone is made again, whatever was expected: there is nothing to overwrite. */
export async function push(
  git: Git,
  trustedHosts: readonly string[],
  call: PushRequest,
  signal: AbortSignal,
): Promise<void> {
  const { cwd, repo, auth, sha, branch, expect } = call;
  const ref = `refs/heads/${branch}`;
  const ask = { cwd, auth, signal };
  async function look(): Promise<string | null> {
    const { text } = await git({
      ...ask,
      pin: await resolvePin(repo, trustedHosts, signal),
      args: ["ls-remote", "--", repo, ref],
    });
    const lines = text.split("\n").map((line) => line.split("\t"));
    return lines.find(([, name]) => name === ref)?.[0] ?? null;
  }
  try {
    const tip = await look();
    if (tip === sha) return;
    if (tip !== null && tip !== expect) {
      throw new TaskFailure("push_rejected", {
        detail: `The branch ${branch} exists upstream with other work (${tip.slice(0, 8)}).`,
      });
    }
    const lease = `--force-with-lease=${ref}:${tip ?? ""}`;
    await git({
      ...ask,
      pin: await resolvePin(repo, trustedHosts, signal),
      args: ["push", "--progress", "--no-verify", lease, "--", repo, `${sha}:${ref}`],
    }).catch(async (error: unknown) => {
      // A push that a killed coordinator left behind may have won the race: what counts is that the
      // commit is there.
      if ((await look().catch(() => null)) !== sha) throw error;
    });
  } catch (error) {
    const meant = classifyPushError(error);
    // A host that cannot be reached for a push is the push's failure, not the repository's.
    throw meant instanceof TaskFailure && meant.code === "repo_unreachable"
      ? new TaskFailure("remote_unreachable", { detail: meant.message, cause: meant })
      : meant;
  }
}
