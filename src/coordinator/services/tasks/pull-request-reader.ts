/**
 * A pull request as its forge has it now. It is read when somebody looks, at most once in
 * `FRESH_MS` for each task however many look, and never stored: a settled task does not change.
 */
import PQueue from "p-queue";
import { SlipwayError } from "../../../core/error.ts";
import { TaskFailure } from "../../../core/failure.ts";
import type { Forge, PullRequestStatus } from "../../../core/ports/repositories.ts";
import type { Clock } from "../../../core/ports/runtime.ts";
import type { PullRequest, Task } from "../../../core/task.ts";
import type { GetAuth } from "../../effects/upstream.ts";

export interface PullRequestReaderDeps {
  readonly forges: readonly Forge[];
  readonly authFor: GetAuth;
  readonly clock: Clock;
}

export interface PullRequestView extends PullRequest, PullRequestStatus {
  /** Epoch ms; null when the forge did not tell: then `state` is that of the opening. */
  readonly readAt: number | null;
  /** Why the forge did not tell, as a sentence. */
  readonly problem: string | null;
}

interface Reading {
  readonly view: Promise<PullRequestView>;
  /** Epoch ms; until then this answer is given again. */
  freshUntil: number;
}

const FRESH_MS = 30_000;
/** A forge that asks for a pause is not asked for longer than this. */
const LONGEST_PAUSE_MS = 10 * 60_000;
const READ_MS = 15_000;
const READS_AT_ONCE = 8;
const KEPT = 500;

export class PullRequestReader {
  readonly #deps: PullRequestReaderDeps;
  readonly #reads = new PQueue({ concurrency: READS_AT_ONCE });
  /** By task, the oldest reading first. */
  readonly #readings = new Map<string, Reading>();

  constructor(deps: PullRequestReaderDeps) {
    this.#deps = deps;
  }

  /** @throws SlipwayError `not_found` without one. */
  async read(task: Task): Promise<PullRequestView> {
    const { pullRequest } = task.snapshot.context;
    if (pullRequest === null) throw new SlipwayError("not_found", "The task has no pull request.");
    const known = this.#readings.get(task.id);
    if (known !== undefined && this.#deps.clock.now() < known.freshUntil) return await known.view;
    const answer = this.#reads.add(() => this.#ask(task, pullRequest));
    const view = answer.then((given) => given.view);
    const reading: Reading = { view, freshUntil: this.#deps.clock.now() + FRESH_MS };
    this.#keep(task.id, reading);
    reading.freshUntil = this.#deps.clock.now() + (await answer).freshMs;
    return await view;
  }

  #keep(taskId: string, reading: Reading): void {
    this.#readings.delete(taskId);
    this.#readings.set(taskId, reading);
    for (const id of this.#readings.keys()) {
      if (this.#readings.size <= KEPT) break;
      this.#readings.delete(id);
    }
  }

  /** Never rejects. */
  async #ask(task: Task, opened: PullRequest): Promise<{ view: PullRequestView; freshMs: number }> {
    const { forges, authFor, clock } = this.#deps;
    const { repo } = task.spec;
    const unknown = (problem: string, freshMs = FRESH_MS) => ({
      view: { ...opened, checks: null, readAt: null, problem },
      freshMs,
    });
    const forge = forges.find((candidate) => candidate.serves(repo));
    if (forge === undefined) return unknown("Its forge is not set up any more: an operator adds it to SLIPWAY_FORGES.");
    try {
      const auth = await authFor(task.userId, repo, "pull_request");
      const request = { repo, auth, number: opened.number };
      const status = await forge.readPullRequest(request, AbortSignal.timeout(READ_MS));
      return { view: { ...opened, ...status, readAt: clock.now(), problem: null }, freshMs: FRESH_MS };
    } catch (error) {
      if (!(error instanceof TaskFailure)) return unknown(`${forge.name} did not answer in time.`);
      const pause = Math.min(Math.max(error.retryAfterMs ?? 0, FRESH_MS), LONGEST_PAUSE_MS);
      return unknown(error.message, pause);
    }
  }
}
