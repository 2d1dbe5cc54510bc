/**
 * `slipway doctor`: checks an installation. Reads the database read-only, beside a running server
 * or without one, and asks the sandbox engine. The rules are those of
 * src/coordinator/invariants.ts, which the crash suite uses too.
 */
import { existsSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { checkInvariants as checkTasks, type Violation } from "../coordinator/invariants.ts";
import type { Config } from "./config.ts";
import { readServerPid } from "./data-folder.ts";
import { errorMessage } from "../core/error.ts";
import { getDisks, openSandbox } from "./wiring.ts";
import { packageRoot } from "../core/lib/runtime/package-root.ts";
import { describeReduction, planDescriptors, readDescriptorLimit } from "../core/lib/runtime/descriptors.ts";
import { ProcessStartError, runTool } from "../core/lib/runtime/process-group.ts";
import { readFreeMb, describeShortage } from "./disk-space.ts";
import { openSqliteReader } from "../store/sqlite/store.ts";
import type { Sandbox } from "../core/ports/sandbox.ts";

export interface CheckResult {
  /** The rule of docs/spec.md, or the part that was checked. */
  readonly rule: string;
  readonly ok: boolean;
  readonly detail: string;
}

const RULES = {
  T1: "each snapshot is the fold of its log",
  T2: "nothing follows the end of a task",
  T4: "each log is whole and in order",
  T5: "attempts grow by one and stay within their number",
  W1: "each worker's events are whole",
  D1: "one sandbox per attempt, one running per task",
  D3: "no sandbox outlives its task",
  D4: "the slots never exceeded their number",
} as const;

const SHOWN = 3;
const SKEW_MS = 60_000;

/** Does not throw for findings; a check that could not run is a result that is not ok. */
export async function runDoctor({ config }: { readonly config: Config }): Promise<CheckResult[]> {
  const dir = resolve(config.dataDir);
  const results: CheckResult[] = [node(), await git(), descriptors(config, dir), ...folder(dir)];
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

async function rules(
  dir: string,
  config: Config,
  sandbox: Parameters<typeof checkTasks>[0]["sandbox"],
): Promise<CheckResult[]> {
  try {
    const store = openSqliteReader({ dir, migrations: join(packageRoot(), "migrations", "sqlite") });
    try {
      // A restart may have lowered the number since: what ran under the larger one was right then.
      const maxConcurrent = Math.max(config.maxConcurrent, Number((await store.setting("slots.max")) ?? 0));
      const [newest] = (await store.tasks({ userId: null, limit: 1 })).items;
      const { tasks, events, violations } = await checkTasks({ store, sandbox, maxConcurrent });
      const looked = `${tasks} tasks, ${events} events`;
      const rows = Object.entries(RULES).map(([rule, words]) =>
        judged(
          rule,
          words,
          looked,
          violations.filter((one) => one.rule === rule),
        ),
      );
      return [clock(newest?.createdAt ?? 0), ...rows];
    } finally {
      await store.close();
    }
  } catch (error) {
    return [{ rule: "database", ok: false, detail: errorMessage(error) }];
  }
}

function judged(rule: string, words: string, looked: string, findings: readonly Violation[]): CheckResult {
  if (findings.length === 0) return { rule, ok: true, detail: `${words} (${looked})` };
  const some = findings.slice(0, SHOWN).map((one) => `${one.taskId}: ${one.detail}`);
  return { rule, ok: false, detail: `${words}: broken ${findings.length} times. ${some.join("; ")}` };
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

/** Those of the running server, whose limit may differ from this shell's. */
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
  { minFreeMb, maxConcurrent, diskMb, sandbox: kind }: Config,
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
  const free = Math.min(...(await Promise.all(disks.map(({ path }) => readFreeMb(path)))));
  const most = maxConcurrent * diskMb;
  const more =
    kind === "docker" && free < most
      ? `; ${maxConcurrent} tasks of ${diskMb} MB may fill it: lower SLIPWAY_DISK_MB`
      : "";
  return [{ rule: "disk", ok: true, detail: `${free} MB free, tasks are claimed down to ${minFreeMb}${more}` }];
}

function folder(dir: string): CheckResult[] {
  if (!existsSync(dir))
    return [{ rule: "data folder", ok: true, detail: `${dir} is not there yet: \`slipway serve\` makes it` }];
  const open = ["secret.key", "operator.token", "slipway.db"].filter((name) => {
    const file = join(dir, name);
    return process.platform !== "win32" && existsSync(file) && (statSync(file).mode & 0o077) !== 0;
  });
  return [
    {
      rule: "data folder",
      ok: open.length === 0,
      detail: open.length === 0 ? dir : `others can read ${open.join(", ")} in ${dir}: chmod 600`,
    },
  ];
}
