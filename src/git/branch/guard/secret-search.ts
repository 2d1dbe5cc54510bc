/** The owner of the thread that searches for secrets. */
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import PQueue from "p-queue";
import { packageRoot } from "../../../core/lib/runtime/package-root.ts";
import type { Hit } from "./entropy.ts";
import type { SearchedText } from "./secrets-thread.ts";

const THREAD = join(packageRoot(), "dist", "secrets-thread.mjs");
/** Longest search of one batch, ms. What takes longer counts as not searched. */
const SEARCH_MS = 30_000;
/**
 * Texts of one thread: the library notes each of its steps for ever and searches these notes, so
 * that each text takes longer than the one before.
 */
const THREAD_TEXTS = 400;
/** The thread ends when it has had nothing to do for so long, ms. */
const IDLE_MS = 60_000;

interface Reply {
  readonly hits?: readonly (readonly Hit[])[];
}

/** One search at a time, so that a large change of one task costs one core at most. */
export class SecretSearch {
  readonly #queue = new PQueue({ concurrency: 1 });
  #worker: Worker | null = null;
  #settle: (reply: Reply | null) => void = () => undefined;
  #idle: NodeJS.Timeout | undefined;
  /** Of the thread. */
  #searched = 0;

  /** @returns the hits of each text; null when the search did not end in time. */
  search(texts: readonly SearchedText[]): Promise<readonly (readonly Hit[])[] | null> {
    return this.#queue.add(() => this.#searchNow(texts));
  }

  async close(): Promise<void> {
    clearTimeout(this.#idle);
    this.#settle(null);
    await this.#end();
  }

  async #searchNow(texts: readonly SearchedText[]): Promise<readonly (readonly Hit[])[] | null> {
    clearTimeout(this.#idle);
    if (this.#searched >= THREAD_TEXTS) await this.#end();
    this.#worker ??= this.#start();
    this.#searched += texts.length;
    const worker = this.#worker;
    const reply = await new Promise<Reply | null>((resolve) => {
      const timer = setTimeout(() => resolve(null), SEARCH_MS);
      this.#settle = (value) => {
        clearTimeout(timer);
        resolve(value);
      };
      worker.postMessage(texts);
    });
    if (reply?.hits === undefined) {
      await this.#end();
      return null;
    }
    this.#idle = setTimeout(() => void this.#end(), IDLE_MS);
    this.#idle.unref();
    return reply.hits;
  }

  /** Without the environment of the server, which holds its keys. */
  #start(): Worker {
    const worker = new Worker(THREAD, { env: {}, execArgv: [], resourceLimits: { maxOldGenerationSizeMb: 256 } });
    worker.unref();
    const settle = (reply: Reply | null): void => {
      if (this.#worker === worker) this.#settle(reply);
    };
    worker.on("message", settle);
    worker.on("error", () => settle(null));
    worker.on("exit", () => settle(null));
    return worker;
  }

  async #end(): Promise<void> {
    const worker = this.#worker;
    this.#worker = null;
    this.#searched = 0;
    await worker?.terminate();
  }
}
