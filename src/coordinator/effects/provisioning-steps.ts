/** The steps of provisioning as events of the log: named, timed, and written in batches. */
import { errorMessage } from "../../core/error.ts";
import type { Proposal } from "../../core/event.ts";
import type { StartPoint, StepName, Task } from "../../core/task.ts";
import type { Clock, Log } from "../../core/ports/runtime.ts";
import { serverNotice } from "../../core/notices.ts";
import type { Recorder } from "./recorder.ts";

/** The steps that the coordinator takes; the worker takes the others. */
type OwnStep = Extract<StepName, "mirror" | "image" | "container">;

export interface StepResult {
  /** Shown to people. */
  readonly detail?: string;
  /** The part of the result that the chart needs. */
  readonly found?: { base: string; baseSha: string; start?: StartPoint };
}

export interface ProvisioningStepsDeps {
  readonly recorder: Recorder;
  readonly clock: Clock;
  readonly log: Log;
}

/** A step that ends within this time is one event instead of two, ms. */
const QUICK_MS = 50;
const PROGRESS_LENGTH = 500;

export class ProvisioningSteps {
  readonly #task: Task;
  readonly #deps: ProvisioningStepsDeps;
  #pending: Proposal[] = [];

  constructor(task: Task, deps: ProvisioningStepsDeps) {
    this.#task = task;
    this.#deps = deps;
  }

  /**
   * Runs one step. When it throws, its start is recorded before the error is passed on, so that the
   * failure stands next to the step's name.
   */
  async run(name: OwnStep, body: (progress: (text: string) => void) => Promise<StepResult>): Promise<void> {
    const { clock } = this.#deps;
    const startedAt = clock.now();
    const add = (status: "started" | "ended", rest: object): void =>
      this.add({ type: "task.step", data: { name, status, detail: null, startedAt, ...rest } });
    const cancelTimer = clock.timer(QUICK_MS, () => {
      add("started", {});
      this.flush().catch((error: unknown) => this.#logLost(error));
    });
    try {
      add("ended", await body((text) => this.#reportProgress(name, text)));
      if (clock.now() - startedAt >= QUICK_MS) await this.flush();
    } catch (error) {
      add("started", {});
      await this.flush();
      throw error;
    } finally {
      cancelTimer();
    }
  }

  /** Proposals that are recorded with the next step. */
  add(...proposals: readonly Proposal[]): void {
    this.#pending.push(...proposals);
  }

  /** Records what is pending. */
  async flush(): Promise<void> {
    const batch = this.#pending;
    this.#pending = [];
    if (batch.length > 0) await this.#deps.recorder.record(this.#task, ...batch);
  }

  #reportProgress(name: OwnStep, text: string): void {
    const notice = serverNotice("info", `step.${name}`, text.slice(0, PROGRESS_LENGTH));
    this.#deps.recorder.record(this.#task, notice).catch((error: unknown) => this.#logLost(error));
  }

  #logLost(error: unknown): void {
    this.#deps.log.warn({ task: this.#task.id, error: errorMessage(error) }, "a step could not be recorded");
  }
}
