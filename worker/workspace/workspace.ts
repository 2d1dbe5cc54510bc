/** The interface between the harness and the agent's checkout. */
import { PUSH_LATER, type WorkerSpec } from "../../src/core/protocol/worker.ts";

/** A saved state of the work. Counted against the commit that the attempt started from. */
export interface SavedWork {
  readonly sha: string;
  readonly files: number;
  readonly additions: number;
  readonly deletions: number;
}

export interface CommitReport {
  readonly title: string;
  /** Becomes the body of the commit. */
  readonly summary: string;
}

/**
 * Lifecycle: open -> restore -> (checkpoint, commit)* -> finalCommit. One call at a time.
 * Methods that access the task repository reject with `Unreachable` when it does not answer or
 * refuses the request; they may be retried.
 */
export interface Workspace {
  /** Absolute path of the checkout. */
  readonly root: string;
  /**
   * Creates the checkout, or reuses the one that an earlier process of this attempt created. Where
   * a setup follows, it is the base without saved work: what an agent wrote must not run with the
   * setup's access. `progress` gets git's progress, at most one line per second.
   */
  open(spec: WorkerSpec, signal: AbortSignal, progress?: (text: string) => void): Promise<void>;
  /**
   * Lays the saved work over the checkout. Files that git ignores stay: what the setup made.
   * Idempotent. @returns what the agent must know about the checkout.
   */
  restore(spec: WorkerSpec, signal: AbortSignal): Promise<readonly string[]>;
  /**
   * Saves everything that is not ignored to the checkpoint ref. The agent's index, commits and
   * files stay as they are.
   */
  checkpoint(signal: AbortSignal): Promise<SavedWork>;
  /** The agent's own commit of everything. Null when there is nothing to commit. */
  commit(message: string, signal: AbortSignal): Promise<string | null>;
  /**
   * Pushes the work to the work ref: the agent's commits, then one commit of the remaining changes.
   * @param report says what was done and why.
   * @returns baseSha, without a push, when nothing changed.
   */
  finalCommit(report: CommitReport, signal: AbortSignal): Promise<string>;
}

/**
 * Error texts of curl and git (2.30 to 2.50) for a connection that broke before or during a
 * response.
 */
const LOST =
  /unable to access|empty reply|(recv|send) failure|connection (refused|reset|closed|timed out)|transfer closed|unexpected disconnect|early eof|hung up|rpc failed|index-pack|bad pack|expected flush/i;
const REFUSED = /returned error: 4\d\d|remote rejected|\[rejected\]|not our ref|^remote: slipway:/im;

/** The task repository did not answer, or refused. */
export class Unreachable extends Error {
  readonly output: string;
  /** The connection broke: nothing was refused. */
  readonly lost: boolean;
  /** Refused for now: the server has no room. */
  readonly later: boolean;

  constructor(what: string, cause: unknown, output: string) {
    super(what, { cause });
    this.name = "Unreachable";
    this.output = output;
    this.later = output.includes(PUSH_LATER);
    this.lost = LOST.test(output) && !REFUSED.test(output);
  }
}
