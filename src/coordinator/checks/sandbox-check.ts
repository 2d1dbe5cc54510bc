/** Compares the sandboxes of the engine with the tasks (rules D1 and D3). */
import { holdsSlot, stateOf } from "../../../machines/fold.ts";
import type { Sandbox, SandboxInfo } from "../../core/ports/sandbox.ts";
import { sandboxName, type Snapshot } from "../../core/task.ts";

export interface SandboxFinding {
  readonly rule: "D1" | "D3";
  readonly taskId: string;
  readonly detail: string;
}

/** @param snapshotOf returns null for an unknown task. */
export async function checkSandboxes(
  sandbox: Pick<Sandbox, "list">,
  snapshotOf: (taskId: string) => Promise<Snapshot | null>,
): Promise<SandboxFinding[]> {
  const found: SandboxFinding[] = [];
  const running = new Map<string, string>();
  for (const { name, taskId, attempt, state } of await sandbox.list()) {
    const snapshot = await snapshotOf(taskId);
    if (name !== sandboxName(taskId, attempt))
      found.push({ rule: "D1", taskId, detail: `sandbox ${name} is not named after its attempt` });
    if (snapshot === null || !holdsSlot(snapshot))
      found.push({ rule: "D3", taskId, detail: `sandbox ${name} (${state}) outlived its task` });
    if (state !== "running") continue;
    const other = running.get(taskId);
    if (other !== undefined) found.push({ rule: "D1", taskId, detail: `${other} and ${name} run at once` });
    running.set(taskId, name);
  }
  return found;
}

/** True when the task is `running` without a sandbox, so that only a restart of it can help. */
export function lacksSandbox(taskId: string, snapshot: Snapshot, sandboxes: readonly SandboxInfo[]): boolean {
  if (stateOf(snapshot) !== "running" || !holdsSlot(snapshot)) return false;
  return !sandboxes.some(({ name }) => name === sandboxName(taskId, snapshot.context.attempt));
}
