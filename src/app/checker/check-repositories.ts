/** Checks that the repositories of tasks hold the work that was saved in them (rule W4). */
import type { Repositories } from "../../core/ports/repositories.ts";
import type { SavedWork } from "./check-database.ts";
import type { Finding } from "./finding.ts";

export interface RepositoryCheckDeps {
  readonly repos: Pick<Repositories, "list" | "has">;
  readonly savedWork: readonly SavedWork[];
  /** Repositories of tasks that settled before are removed, epoch ms. */
  readonly keptSince: number;
}

/** Settled tasks that are checked, the newest first: each commit needs a git. */
const MOST_SETTLED = 500;
const AT_ONCE = 4;

export async function checkRepositories({ repos, savedWork, keptSince }: RepositoryCheckDeps): Promise<Finding[]> {
  const open = savedWork.filter(({ settledAt }) => settledAt === null);
  const settled = savedWork.filter(({ settledAt }) => settledAt !== null && settledAt > keptSince);
  const present = new Set(await repos.list());
  const found: Finding[] = [];
  const queue = [...open, ...settled.slice(-MOST_SETTLED)];
  async function work(): Promise<void> {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const { taskId, commits } = next;
      const report = (detail: string): void => void found.push({ rule: "W4", taskId, detail, repair: null });
      if (!present.has(taskId)) report("its repository is gone, and with it the work that it had saved");
      else
        for (const sha of commits)
          if (!(await repos.has(taskId, sha))) report(`its repository lacks the saved commit ${sha}`);
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return found;
}
