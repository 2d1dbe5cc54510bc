/**
 * Checks that mirrors are complete (rule W7), and that the repositories of tasks hold the work that
 * was saved in them (rule W4).
 */
import { join } from "node:path";
import type { Repositories } from "../../../core/ports/repositories.ts";
import { isSuspect } from "../../../git/bare/completeness.ts";
import type { SavedWork } from "./database.ts";
import type { Finding } from "../finding.ts";

export interface RepositoryCheckDeps {
  readonly repos: Pick<Repositories, "list" | "has" | "check">;
  /** The folder of the repositories. */
  readonly dir: string;
  readonly savedWork: readonly SavedWork[];
  /** Repositories of tasks that settled before are removed, epoch ms. */
  readonly keptSince: number;
}

/** Settled tasks that are checked, the newest first: each commit needs a git. */
const MOST_SETTLED = 500;
const AT_ONCE = 4;
/** Large mirrors take longer; what is not reached is not reported, ms. */
const WALK_MS = 120_000;

export async function checkRepositories(deps: RepositoryCheckDeps): Promise<Finding[]> {
  return [...(await checkSavedWork(deps)), ...(await checkObjects(deps))];
}

async function checkSavedWork({ repos, savedWork, keptSince }: RepositoryCheckDeps): Promise<Finding[]> {
  const open = savedWork.filter(({ settledAt }) => settledAt === null);
  const settled = savedWork.filter(({ settledAt }) => settledAt !== null && settledAt > keptSince);
  const present = new Set(await repos.list());
  const found: Finding[] = [];
  const queue = [...open, ...settled.slice(-MOST_SETTLED)];
  async function work(): Promise<void> {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const { taskId, commits } = next;
      const report = (detail: string): void => void found.push({ rule: "W4", taskId, detail, repair: null });
      if (!present.has(taskId)) {
        report("its repository is gone, and with it the work that it had saved");
        continue;
      }
      for (const sha of commits)
        if (!(await repos.has(taskId, sha))) report(`its repository lacks the saved commit ${sha}`);
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return found;
}

/** A mirror that is marked already is fetched again at its next use, and is no finding. */
async function checkObjects({ repos, dir }: Pick<RepositoryCheckDeps, "repos" | "dir">): Promise<Finding[]> {
  const found: Finding[] = [];
  for (const { kind, name, problem } of await incompleteRepositories(repos)) {
    if (kind === "task")
      found.push({ rule: "W7", taskId: name, detail: `its repository lacks objects: ${problem}`, repair: null });
    else if (!isSuspect(join(dir, "mirrors", `${name}.git`)))
      found.push({ rule: "W7", taskId: "-", detail: `mirror ${name} lacks objects: ${problem}`, repair: "mirror" });
  }
  return found;
}

async function incompleteRepositories(repos: Pick<Repositories, "check">) {
  const signal = AbortSignal.timeout(WALK_MS);
  try {
    return await repos.check(signal);
  } catch (error) {
    if (signal.aborted) return [];
    throw error;
  }
}

/** Marks incomplete mirrors: their next use fetches them in full. */
export async function repairMirrors(repos: Pick<Repositories, "check" | "distrust">, dir: string): Promise<Finding[]> {
  const found: Finding[] = [];
  for (const { kind, name, problem } of await incompleteRepositories(repos)) {
    if (kind !== "mirror" || isSuspect(join(dir, "mirrors", `${name}.git`))) continue;
    await repos.distrust({ kind, name });
    found.push({ rule: "W7", taskId: "-", detail: `mirror ${name} is fetched again: ${problem}`, repair: "mirror" });
  }
  return found;
}
