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

/**
 * Pushes one commit with a lease; a no-op when the branch already holds it. A branch that no
 * longer exists is created again regardless of `expect`: there is nothing to overwrite.
 * @throws TaskFailure; the signal's reason when aborted.
 */
export async function push(
  git: Git,
  trustedHosts: readonly string[],
  call: PushRequest,
  signal: AbortSignal,
): Promise<void> {
  const { cwd, repo, auth, sha, branch, expect } = call;
  const ref = `refs/heads/${branch}`;
  const common = { cwd, auth, signal };
  async function readTip(): Promise<string | null> {
    const { text } = await git({
      ...common,
      pin: await resolvePin(repo, trustedHosts, signal),
      args: ["ls-remote", "--", repo, ref],
    });
    const lines = text.split("\n").map((line) => line.split("\t"));
    return lines.find(([, name]) => name === ref)?.[0] ?? null;
  }
  /** True when others have gone on from the commit: it was pushed, and nothing is left to do. */
  async function isBelow(tip: string): Promise<boolean> {
    const pin = await resolvePin(repo, trustedHosts, signal);
    const args = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", repo, ref];
    await git({ ...common, pin, args });
    const compare = git({ cwd, signal, args: ["merge-base", "--is-ancestor", sha, tip] });
    return await compare.then(
      () => true,
      () => false,
    );
  }
  try {
    const tip = await readTip();
    if (tip === sha) return;
    if (tip !== null && tip !== expect) {
      if (await isBelow(tip)) return;
      throw new TaskFailure("push_rejected", {
        detail: `The branch ${branch} exists upstream with other work (${tip.slice(0, 8)}).`,
      });
    }
    const lease = `--force-with-lease=${ref}:${tip ?? ""}`;
    await git({
      ...common,
      pin: await resolvePin(repo, trustedHosts, signal),
      args: ["push", "--progress", "--no-verify", lease, "--", repo, `${sha}:${ref}`],
    }).catch(async (error: unknown) => {
      // The push of a killed coordinator may still have run and won the race: the call succeeds if
      // the branch points at the commit.
      if ((await readTip().catch(() => null)) !== sha) throw error;
    });
  } catch (error) {
    const failure = classifyPushError(error);
    // `repo_unreachable` is a failure of the fetch; an unreachable host fails a push with its own
    // code.
    throw failure instanceof TaskFailure && failure.code === "repo_unreachable"
      ? new TaskFailure("remote_unreachable", { detail: failure.message, cause: failure })
      : failure;
  }
}
