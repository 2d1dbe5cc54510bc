/**
 * `slipway doctor`: checks an installation. Reads the database read-only, beside a running server
 * or without one, and asks the sandbox engine.
 */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { checkAttachments } from "./checks/attachments.ts";
import { checkDatabase, type SavedWork } from "./checks/database.ts";
import { checkEngine } from "./checks/engine.ts";
import { checkKeys, checkLocks, checkPermissions, checkToken } from "./checks/files.ts";
import { checkRepositories, repairMirrors } from "./checks/repositories.ts";
import { checkArtifacts, checkBackups } from "./checks/backups.ts";
import { checkServer } from "./checks/server.ts";
import { RULES, type Finding } from "./finding.ts";
import { repairFolder } from "./repair.ts";
import type { Config } from "../config.ts";
import { readServerPid } from "../data-folder/data-folder.ts";
import { errorMessage, SlipwayError } from "../../core/error.ts";
import { openSandbox } from "../wiring/sandbox.ts";
import { describeReduction, planDescriptors, readDescriptorLimit } from "../../core/lib/runtime/descriptors.ts";
import { packageRoot } from "../../core/lib/runtime/package-root.ts";
import { ProcessStartError, runTool } from "../../core/lib/runtime/process-group.ts";
import { describeShortage, getDisks, readFreeMb } from "../disk-space.ts";
import { openRepositories } from "../../git/repositories.ts";
import { openInspection, type Inspection } from "../../store/sqlite/inspection/inspection.ts";
import type { Repositories } from "../../core/ports/repositories.ts";
import type { Sandbox } from "../../core/ports/sandbox.ts";

export interface CheckResult {
  /** The rule of docs/spec.md, or the part that was checked. */
  readonly rule: string;
  readonly ok: boolean;
  readonly detail: string;
  /** What was found, when it is not ok; at most MOST_LISTED. */
  readonly findings?: readonly Finding[];
}

/** Findings in the text of one rule, and in its list. */
const SHOWN = 3;
const MOST_LISTED = 1_000;
const SKEW_MS = 60_000;
const DAY_MS = 24 * 3_600_000;
const MIGRATIONS = join(packageRoot(), "migrations", "sqlite");

/**
 * Does not throw for findings; a check that could not run is a result that is not ok.
 * @param options.repair corrects first what can be derived (checker/repair.ts), then checks.
 * @throws SlipwayError `locked` when a repair is asked for while a coordinator uses the folder.
 */
export async function runDoctor(options: { readonly config: Config; readonly repair?: true }): Promise<CheckResult[]> {
  const { config } = options;
  const dir = resolve(config.dataDir);
  const repaired = options.repair === true ? await repair(dir, config) : [];
  return [...repaired, ...(await examine(dir, config))];
}

async function repair(dir: string, config: Config): Promise<CheckResult[]> {
  if (!existsSync(join(dir, "slipway.db"))) return [];
  try {
    const reader = openInspection(dir, MIGRATIONS);
    const maxConcurrent = countSlots(reader, config);
    reader.close();
    const { backup, repaired } = await repairFolder({
      dir,
      migrations: MIGRATIONS,
      maxConcurrent,
      now: Date.now(),
      besides: () => withRepositories(dir, config, repairMirrors),
    });
    if (repaired.length === 0) return [{ rule: "repair", ok: true, detail: "nothing to repair" }];
    const copy = backup === null ? "" : `; the database from before is ${backup}`;
    return [
      ...repaired.map(({ rule, taskId, detail }) => ({
        rule: "repaired",
        ok: true,
        detail: `${rule} ${taskId}: ${detail}`,
      })),
      { rule: "repair", ok: true, detail: `${repaired.length} findings repaired${copy}` },
    ];
  } catch (error) {
    if (error instanceof SlipwayError && error.code === "locked") throw error;
    return [{ rule: "repair", ok: false, detail: errorMessage(error) }];
  }
}

async function examine(dir: string, config: Config): Promise<CheckResult[]> {
  const results: CheckResult[] = [node(), await git(), descriptors(config, dir), ...folder(dir)];
  results.push(...(await checkBackups(config)), ...(await checkArtifacts(config, dir)));
  const server = await checkServer(dir);
  if (server !== null) results.push({ rule: "server", ...server });
  const sandbox = await openSandbox(config, dir);
  try {
    const line = await sandbox.check(AbortSignal.timeout(15_000)).then(
      (text) => ({ ok: true, detail: text }),
      (error: unknown) => ({ ok: false, detail: errorMessage(error) }),
    );
    results.push({ rule: "sandbox", ...line });
    results.push(...(await checkDisks(config, dir, sandbox)));
    if (line.ok) results.push(...(await walls(sandbox)), ...(await warm(sandbox)));
    if (!existsSync(join(dir, "slipway.db")))
      return [...results, { rule: "database", ok: true, detail: "there is none yet: `slipway serve` makes it" }];
    results.push(...(await rules(dir, config, line.ok ? sandbox : null)));
  } finally {
    await sandbox.close();
  }
  return results;
}

/** Degraded hardening is reported with its consequence but does not fail the check. */
async function walls(sandbox: Pick<Sandbox, "hardeningChecks">): Promise<CheckResult[]> {
  try {
    const found = await sandbox.hardeningChecks(AbortSignal.timeout(15_000));
    return found.map(({ name, state, detail }) => ({
      rule: name,
      ok: true,
      detail: state === "full" ? detail : `degraded: ${detail}`,
    }));
  } catch (error) {
    return [{ rule: "engine", ok: false, detail: errorMessage(error) }];
  }
}

/** A pool that is not full is reported but does not fail the check: tasks then start cold. */
async function warm(sandbox: Pick<Sandbox, "poolStatus">): Promise<CheckResult[]> {
  try {
    const found = await sandbox.poolStatus(AbortSignal.timeout(15_000));
    if (found === null) return [];
    const words = `${found.ready} of ${found.wanted} workers wait for a task`;
    return [{ rule: "warm", ok: true, detail: found.reason === null ? words : `${words}: ${found.reason}` }];
  } catch (error) {
    return [{ rule: "warm", ok: false, detail: errorMessage(error) }];
  }
}

async function rules(dir: string, config: Config, sandbox: Pick<Sandbox, "list"> | null): Promise<CheckResult[]> {
  try {
    const inspection = openInspection(dir, MIGRATIONS);
    try {
      const report = checkDatabase(inspection, countSlots(inspection, config));
      const findings = [...report.findings, ...(await repositories(dir, config, report.savedWork))];
      if (sandbox !== null) findings.push(...(await checkEngine({ dir, inspection, sandbox, active: report.active })));
      const keptSince = Date.now() - config.retentionDays * DAY_MS;
      // Without a table no task could be looked at.
      if (report.tasks > 0)
        findings.push(...checkAttachments({ inspection, dir: join(dir, "attachments"), keptSince }));
      const looked = `${report.tasks} tasks, ${report.events} events`;
      const ofRule = (rule: string): Finding[] => findings.filter((one) => one.rule === rule);
      const rows = Object.entries(RULES).map(([rule, words]) => summarize(rule, words, looked, ofRule(rule)));
      return [clock(report.newestTaskAt), await checkKeys(config, dir, inspection.keys()), ...rows];
    } finally {
      inspection.close();
    }
  } catch (error) {
    return [{ rule: "database", ok: false, detail: errorMessage(error) }];
  }
}

/** A restart may have lowered the number since: what ran under the larger one was right then. */
function countSlots(inspection: Inspection, { maxConcurrent }: Config): number {
  return Math.max(maxConcurrent, Number(inspection.setting("slots.max") ?? 0) || 0);
}

async function repositories(dir: string, config: Config, savedWork: readonly SavedWork[]): Promise<Finding[]> {
  const keptSince = Date.now() - config.retentionDays * DAY_MS;
  return withRepositories(dir, config, (repos, root) => checkRepositories({ repos, dir: root, savedWork, keptSince }));
}

/** Nothing, where no repository was ever made. */
async function withRepositories(
  dir: string,
  { trustedRepoHosts: trustedHosts }: Config,
  work: (repos: Repositories, root: string) => Promise<Finding[]>,
): Promise<Finding[]> {
  const root = join(dir, "git");
  if (!existsSync(root)) return [];
  const repos = openRepositories({ dir: root, trustedHosts, isOwner: false });
  try {
    return await work(repos, root);
  } finally {
    await repos.close();
  }
}

function summarize(rule: string, words: string, looked: string, findings: readonly Finding[]): CheckResult {
  if (findings.length === 0) return { rule, ok: true, detail: `${words} (${looked})` };
  const some = findings.slice(0, SHOWN).map((one) => `${one.taskId}: ${one.detail}`);
  return {
    rule,
    ok: false,
    detail: `${words}: broken ${findings.length} times. ${some.join("; ")}`,
    findings: findings.slice(0, MOST_LISTED),
  };
}

function node(): CheckResult {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const ok = major > 20 || (major === 20 && minor >= 19);
  return { rule: "node", ok, detail: ok ? process.version : `${process.version}: Slipway needs Node 20.19 or newer` };
}

/**
 * Before 2.37 git cannot be told which address a name stands for, and every clone and push is
 * refused.
 */
const GIT = [2, 37] as const;

async function git(): Promise<CheckResult> {
  try {
    const stdout = await runTool("git", ["--version"], { env: { PATH: process.env["PATH"] }, timeoutMs: 10_000 });
    const [, major = "0", minor = "0"] = /(\d+)\.(\d+)/.exec(stdout) ?? [];
    const ok = Number(major) > GIT[0] || (Number(major) === GIT[0] && Number(minor) >= GIT[1]);
    return {
      rule: "git",
      ok,
      detail: ok ? stdout.trim() : `${stdout.trim()}: Slipway needs git ${GIT.join(".")} or newer`,
    };
  } catch (error) {
    if (!(error instanceof ProcessStartError && error.isMissing))
      return { rule: "git", ok: false, detail: errorMessage(error) };
    return { rule: "git", ok: false, detail: `there is no git on the PATH: install ${GIT.join(".")} or newer` };
  }
}

/**
 * Checks the file descriptors of the running server, because its limit may differ from this
 * shell's.
 */
function descriptors({ maxConcurrent }: Config, dir: string): CheckResult {
  const limit = readDescriptorLimit(readServerPid(dir) ?? "self") ?? readDescriptorLimit();
  const plan = planDescriptors(limit, maxConcurrent);
  const reduction = describeReduction(plan, maxConcurrent);
  return {
    rule: "descriptors",
    ok: plan.slots === maxConcurrent,
    detail: reduction ?? `at most ${limit ?? "an unknown number of"} open files`,
  };
}

/**
 * Deadlines, leases and tokens go by this machine's clock: one that was set back makes all of them
 * late.
 */
function clock(newest: number): CheckResult {
  const ahead = newest - Date.now();
  const ok = ahead <= SKEW_MS;
  const detail = ok
    ? new Date().toISOString()
    : `the newest task is ${Math.round(ahead / 1_000)} s in the future: set this machine's clock`;
  return { rule: "clock", ok, detail };
}

/**
 * Free disk space. Workspaces that together are larger than the disk are reported, but fail the
 * check only when space is short now.
 */
async function checkDisks(
  { minFreeMb, maxConcurrent, diskMb, diskOvercommit, sandbox: kind }: Config,
  dir: string,
  sandbox: Sandbox,
): Promise<CheckResult[]> {
  if (!existsSync(dir)) return [];
  const disks = await getDisks(dir, sandbox);
  const short = await describeShortage(disks, minFreeMb);
  if (short !== null)
    return [
      { rule: "disk", ok: false, detail: `${short} Until then no task is claimed: run \`slipway gc\`, or make room` },
    ];
  // The first server of this version makes the folder of the workspaces.
  const present = disks.filter(({ path }) => existsSync(path));
  const free = Math.min(...(await Promise.all(present.map(({ path }) => readFreeMb(path)))));
  const fit = Math.max(0, Math.floor(((free - minFreeMb) * diskOvercommit) / diskMb));
  const more =
    kind === "docker" && fit < maxConcurrent
      ? `; it has room for ${fit} more workspaces of ${diskMb} MB, so further tasks wait (disk_low): make room, or lower SLIPWAY_DISK_MB`
      : "";
  return [{ rule: "disk", ok: true, detail: `${free} MB free, tasks are claimed down to ${minFreeMb}${more}` }];
}

function folder(dir: string): CheckResult[] {
  if (!existsSync(dir))
    return [{ rule: "data folder", ok: true, detail: `${dir} is not there yet: \`slipway serve\` makes it` }];
  const found = [...checkPermissions(dir), ...checkToken(dir)];
  const details = found.map(({ detail }) => detail).join("; ");
  const locks = checkLocks(dir);
  return [
    found.length === 0
      ? { rule: "data folder", ok: true, detail: dir }
      : { rule: "data folder", ok: false, detail: details, findings: found },
    summarize("locks", "no git that has ended left a lock", dir, locks),
  ];
}
