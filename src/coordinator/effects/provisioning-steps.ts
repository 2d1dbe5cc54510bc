/**
 * The steps of provisioning, named and timed in the log; what is quick is one event, written
 * together with its neighbours.
 */
import { errorMessage } from "../../core/error.ts";
import type { Proposal } from "../../core/event.ts";
import type { StepName, Task } from "../../core/task.ts";
import type { Clock, Log } from "../../core/ports/runtime.ts";

/** What a step found out: shown to people, and what of it the chart needs. */
export interface StepResult {
  readonly detail?: string;
  readonly found?: { base: string; baseSha: string };
}

export interface ProvisioningSteps {
  /**
   * Runs one step. When it throws, it is recorded as started first, so that the failure stands
   * beside its name.
   */
  run(name: StepName, body: (progress: (text: string) => void) => Promise<StepResult>): Promise<void>;
  /** Something to be recorded with the next step. */
  add(...proposals: Proposal[]): void;
  /** Records what is not yet recorded. */
  flush(): Promise<void>;
}

type Say = (task: Task, ...proposals: Proposal[]) => Promise<unknown>;

/** A step that ends within this is recorded once, not twice. */
const QUICK_MS = 50;

/** @param say records proposals about this task. */
export function createProvisioningSteps(task: Task, say: Say, clock: Clock, log: Log): ProvisioningSteps {
  let pending: Proposal[] = [];
  const lost = (error: unknown): void =>
    log.warn({ task: task.id, error: errorMessage(error) }, "a step could not be recorded");

  async function flush(): Promise<void> {
    const batch = pending;
    pending = [];
    if (batch.length > 0) await say(task, ...batch);
  }

  async function run(name: StepName, body: (progress: (text: string) => void) => Promise<StepResult>): Promise<void> {
    const startedAt = clock.now();
    const propose = (status: "started" | "ended", rest: object): void =>
      void pending.push({ type: "task.step", data: { name, status, detail: null, startedAt, ...rest } });
    const callOff = clock.timer(QUICK_MS, () => {
      propose("started", {});
      flush().catch(lost);
    });
    const progress = (text: string): void =>
      void say(task, { type: "notice", data: { level: "info", code: `step.${name}`, text: text.slice(0, 500) } }).catch(
        lost,
      );
    try {
      propose("ended", await body(progress));
      if (clock.now() - startedAt >= QUICK_MS) await flush();
    } catch (error) {
      propose("started", {});
      await flush();
      throw error;
    } finally {
      callOff();
    }
  }

  return { run, flush, add: (...proposals) => void pending.push(...proposals) };
}
