/** The checkout that the agent works in, as the harness sees it. */
import type { WorkerSpec } from "../../src/core/protocol/worker.ts";

/** A saved state of the work. Counted against the commit that the attempt started from. */
export interface SavedWork {
  readonly sha: string;
  readonly files: number;
  readonly additions: number;
  readonly deletions: number;
}

/**
 * Lifecycle: open -> (checkpoint, commit)* -> finalCommit. One call at a time.
 * Methods that talk to the task repository reject with `Unreachable` when it did not take or give
 * what was asked; they may be called again.
 */
export interface Workspace {
  /** Absolute path of the checkout. */
  readonly root: string;
  /** Makes the checkout, or finds the one that an earlier life of this attempt made. */
  open(spec: WorkerSpec, signal: AbortSignal): Promise<void>;
  /**
   * Saves everything that is not ignored to the checkpoint ref. The agent's index, commits and
   * files stay as they are.
   */
  checkpoint(signal: AbortSignal): Promise<SavedWork>;
  /** The agent's own commit of everything. Null when there is nothing to commit. */
  commit(message: string, signal: AbortSignal): Promise<string | null>;
  /**
   * The work as history on the work ref: the agent's own commits, then one commit of what is left
   * over.
   * @returns baseSha, without a push, when nothing changed.
   */
  finalCommit(title: string, signal: AbortSignal): Promise<string>;
}

/**
 * What git says when the other side went away before or in the middle of an answer (curl's and
 * git's own words, git 2.30 to 2.50).
 */
const LOST =
  /unable to access|empty reply|(recv|send) failure|connection (refused|reset|closed|timed out)|transfer closed|unexpected disconnect|early eof|hung up|rpc failed|index-pack|bad pack|expected flush/i;
const REFUSED = /returned error: 4\d\d|remote rejected|\[rejected\]|not our ref|^remote: slipway:/im;

/** The task repository did not answer, or refused. */
export class Unreachable extends Error {
  readonly output: string;
  /** The connection broke: nothing was refused. */
  readonly lost: boolean;

  constructor(what: string, cause: unknown, output: string) {
    super(what, { cause });
    this.name = "Unreachable";
    this.output = output;
    this.lost = LOST.test(output) && !REFUSED.test(output);
  }
}
