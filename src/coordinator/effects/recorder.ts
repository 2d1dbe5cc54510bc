/**
 * Records of an effect: always with the attempt that the effect was started for (the fence, E1).
 */
import type { Proposal } from "../../core/event.ts";
import type { FailureCode } from "../../core/failure.ts";
import type { Ids } from "../../core/ports/runtime.ts";
import type { Task } from "../../core/task.ts";
import type { TaskLog } from "../task-log.ts";
import { failureProposal, type FailureDetails } from "./failure-proposal.ts";

export class Recorder {
  readonly #taskLog: TaskLog;
  readonly #ids: Ids;

  constructor(taskLog: TaskLog, ids: Ids) {
    this.#taskLog = taskLog;
    this.#ids = ids;
  }

  async record(task: Task, ...proposals: readonly Proposal[]): Promise<void> {
    const { attempt } = task.snapshot.context;
    await this.#taskLog.record(task.id, () => proposals.map((proposal) => ({ attempt, ...proposal })));
  }

  async fail(task: Task, code: FailureCode, details: FailureDetails = {}): Promise<void> {
    await this.record(task, failureProposal(code, this.#ids.random(), details));
  }
}
