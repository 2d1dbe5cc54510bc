/**
 * Records of an effect: always with the attempt that the effect was started for (the fence, E1).
 */
import type { Proposal } from "../../core/event.ts";
import type { FailureCode } from "../../core/failure.ts";
import type { Ids } from "../../core/ports/runtime.ts";
import type { Task } from "../../core/task.ts";
import type { TaskLog } from "../task-log.ts";
import type { AttemptVariables } from "../services/worker/variables.ts";
import { failureProposal, type FailureDetails } from "./failure-proposal.ts";

/** Fields that hold the truncated output of a sandbox or a host. */
const CUT: ReadonlySet<string> = new Set(["detail", "evidence", "text"]);

export class Recorder {
  readonly #taskLog: TaskLog;
  readonly #ids: Ids;
  readonly #variables: Pick<AttemptVariables, "redactor">;

  /** @param variables what a sandbox or a host says may hold secrets of the task. */
  constructor(taskLog: TaskLog, ids: Ids, variables: Pick<AttemptVariables, "redactor">) {
    this.#taskLog = taskLog;
    this.#ids = ids;
    this.#variables = variables;
  }

  async record(task: Task, ...proposals: readonly Proposal[]): Promise<void> {
    const { attempt } = task.snapshot.context;
    const redactor = await this.#variables.redactor(task);
    const redact = (proposal: Proposal): Proposal =>
      redactor === null ? proposal : redactor.redactValue(proposal, CUT);
    await this.#taskLog.record(task.id, () => proposals.map((proposal) => ({ attempt, ...redact(proposal) })));
  }

  async fail(task: Task, code: FailureCode, details: FailureDetails = {}): Promise<void> {
    await this.record(task, failureProposal(code, this.#ids.random(), details));
  }
}
