/** Compares the sandboxes of the engine with the tasks that the database has (rules D1 and D3). */
import { setTimeout as delay } from "node:timers/promises";
import { checkSandboxes, lacksSandbox } from "../../../coordinator/checks/sandbox-check.ts";
import type { Sandbox } from "../../../core/ports/sandbox.ts";
import type { Snapshot } from "../../../core/task.ts";
import type { Inspection } from "../../../store/sqlite/inspection/inspection.ts";
import { isFolderLocked } from "../../../store/sqlite/lock.ts";
import type { Finding } from "../finding.ts";

export interface EngineCheckDeps {
  /** The data folder. */
  readonly dir: string;
  readonly inspection: Inspection;
  readonly sandbox: Pick<Sandbox, "list">;
  /** The tasks that hold a slot. */
  readonly active: ReadonlyMap<string, Snapshot>;
}

/** A coordinator has corrected within this time what differs only for a moment, ms. */
const SECOND_LOOK_MS = 3_000;

/**
 * A difference counts when a second look finds it too: tasks and sandboxes are not read at one
 * moment. Without a coordinator, a running task without a sandbox is none: the next start begins
 * its attempt again.
 */
export async function checkEngine(deps: EngineCheckDeps): Promise<Finding[]> {
  const first = await look(deps);
  if (first.length === 0) return [];
  if (isFolderLocked(deps.dir)) await delay(SECOND_LOOK_MS);
  const second = new Set((await look(deps)).map(({ detail }) => detail));
  return first.filter(({ detail }) => second.has(detail));
}

async function look({ dir, inspection, sandbox, active }: EngineCheckDeps): Promise<Finding[]> {
  const snapshotOf = (id: string): Promise<Snapshot | null> => Promise.resolve(readSnapshot(inspection, id));
  const found = await checkSandboxes(sandbox, snapshotOf);
  if (isFolderLocked(dir)) {
    const sandboxes = await sandbox.list();
    for (const taskId of active.keys()) {
      const snapshot = readSnapshot(inspection, taskId);
      if (snapshot !== null && lacksSandbox(taskId, snapshot, sandboxes))
        found.push({ rule: "D3", taskId, detail: `attempt ${snapshot.context.attempt} runs without a sandbox` });
    }
  }
  return found.map((one) => ({ ...one, repair: null }));
}

/** Null when there is none, or it is damaged. */
function readSnapshot(inspection: Inspection, taskId: string): Snapshot | null {
  try {
    const text = inspection.task(taskId)?.snapshot;
    return text === undefined ? null : (JSON.parse(text) as Snapshot);
  } catch {
    return null;
  }
}
