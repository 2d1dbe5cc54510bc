/**
 * Whether the sandbox engine can be claimed on.
 *
 * G4 An engine that does not answer opens the breaker at once and until it answers: a claim could
 *    only fail, and would hold its slot until then. The engine is checked every `CHECK_MS`, and
 *    after an infrastructure failure before the next claim (decision 020).
 * G5 More than `breakerLimit` infrastructure failures within `breakerWindowMs` open the breaker for
 *    at least `breakerRestMs`, even if the engine answers (rule D9).
 */
import { errorMessage } from "../../core/error.ts";
import { withTimeout } from "../../core/lib/concurrency/async.ts";
import type { Clock, Log } from "../../core/ports/runtime.ts";
import type { Sandbox } from "../../core/ports/sandbox.ts";

export interface EngineBreakerDeps {
  readonly sandbox: Pick<Sandbox, "check">;
  readonly clock: Clock;
  readonly log: Log;
  readonly breakerLimit: number;
  readonly breakerWindowMs: number;
  /** Shortest pause after too many failures, ms. */
  readonly breakerRestMs: number;
  /** Longest wait for the engine's answer to one check, ms. */
  readonly engineMs: number;
}

type Breaker =
  | { readonly state: "closed" }
  | { readonly state: "open"; readonly reason: string; readonly until: number };

/** Between two checks of an engine that answers. */
const CHECK_MS = 5_000;

export class EngineBreaker {
  readonly #deps: EngineBreakerDeps;
  #breaker: Breaker = { state: "closed" };
  /** Times of the infrastructure failures within the window. */
  #failures: readonly number[] = [];
  /** An attempt failed in a way that may be the engine's, and no check has begun since. */
  #isSuspect = false;
  #nextCheckAt = 0;
  #check: Promise<boolean> | null = null;

  constructor(deps: EngineBreakerDeps) {
    this.#deps = deps;
  }

  /** Why the breaker is open; null while it is closed. */
  get reason(): string | null {
    return this.#breaker.state === "open" ? this.#breaker.reason : null;
  }

  noteFailure(): void {
    const { clock, log, breakerLimit, breakerWindowMs, breakerRestMs } = this.#deps;
    const now = clock.monotonic();
    this.#isSuspect = true;
    this.#failures = [...this.#failures.filter((failedAt) => now - failedAt < breakerWindowMs), now];
    const count = this.#failures.length;
    if (count <= breakerLimit || this.#breaker.state === "open") return;
    const reason = `${count} infrastructure failures in ${Math.round(breakerWindowMs / 1_000)} s`;
    this.#breaker = { state: "open", reason, until: now + breakerRestMs };
    log.error({ failures: count }, "claiming is paused: the sandbox engine keeps failing");
  }

  /** Checks the engine if a failure made it suspect. @returns false when it does not answer. */
  async checkIfSuspect(): Promise<boolean> {
    return this.#isSuspect ? await this.#checkOnce() : true;
  }

  /** Checks the engine if that is due. @returns the result of the latest check. */
  async checkIfDue(): Promise<boolean> {
    const isDue =
      this.#breaker.state === "open" || this.#isSuspect || this.#deps.clock.monotonic() >= this.#nextCheckAt;
    return isDue ? await this.#checkOnce() : true;
  }

  /**
   * Closes the breaker if its pause is over. To be called when the engine has answered.
   * @returns true when it closed.
   */
  closeIfRested(): boolean {
    if (this.#breaker.state === "closed" || this.#deps.clock.monotonic() < this.#breaker.until) return false;
    this.#breaker = { state: "closed" };
    this.#failures = [];
    this.#deps.log.info({}, "the sandbox engine answers; claiming goes on");
    return true;
  }

  /** Concurrent callers share one check. */
  #checkOnce(): Promise<boolean> {
    this.#check ??= this.#runCheck().finally(() => (this.#check = null));
    return this.#check;
  }

  async #runCheck(): Promise<boolean> {
    this.#isSuspect = false;
    const reason = await this.#askEngine();
    this.#nextCheckAt = this.#deps.clock.monotonic() + CHECK_MS;
    if (reason === null) return true;
    const before = this.#breaker;
    if (before.state === "closed")
      this.#deps.log.error({ error: reason }, "claiming is paused: the sandbox engine does not answer");
    this.#breaker = { state: "open", reason, until: before.state === "open" ? before.until : 0 };
    return false;
  }

  /** @returns null when the engine answers, else why it does not. */
  async #askEngine(): Promise<string | null> {
    const stop = new AbortController();
    try {
      await withTimeout(this.#deps.engineMs, this.#deps.sandbox.check(stop.signal), this.#deps.clock);
      return null;
    } catch (error) {
      stop.abort();
      return `The sandbox engine does not answer (${errorMessage(error)}).`;
    }
  }
}
