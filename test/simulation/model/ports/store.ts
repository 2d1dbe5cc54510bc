/**
 * A store whose writes take time, fail, or succeed without an answer; in the order of their calls,
 * as the port demands. An answer of a read may be older than a write that was answered before it.
 * The data outlives the coordinator that used it.
 */
import type { Commit, NewTask } from "../../../../src/core/ports/store.ts";
import { Dice } from "../dice.ts";
import type { Faults } from "../faults.ts";
import type { Domain, VirtualTime } from "../virtual-time.ts";

export interface FaultyStoreDeps<T> {
  readonly seed: number;
  readonly base: T;
  readonly time: VirtualTime;
  readonly faults: Faults;
  readonly domain: Domain;
  /** Called when a write is durable. */
  readonly onWrite: (name: string, args: readonly unknown[], result: unknown) => void;
  /** Called when the coordinator learns the result of a write. */
  readonly onAnswer: (name: string, args: readonly unknown[]) => void;
  /** Called when the coordinator reads without end. */
  readonly onLoop: (name: string) => void;
}

interface Outcome {
  readonly value: unknown;
  /** The error, and the time until the caller learns it. */
  readonly failure: { readonly text: string; readonly ms: number } | null;
}

const WRITES = new Set([
  "create",
  "commit",
  "recordExit",
  "appendRecord",
  "dropTranscript",
  "setSetting",
  "ping",
  "record",
]);
const BUSY_MS = 5_000;
/** More reads in one step are a loop that never returns to the event loop. */
const READS = 5_000;
const never = (): Promise<never> => new Promise(() => undefined);

class Writes<T> {
  readonly #deps: FaultyStoreDeps<T>;
  readonly #dice: Dice;
  /** When the last write so far is applied. */
  #lastAt = -1;

  constructor(deps: FaultyStoreDeps<T>, label: string) {
    this.#deps = deps;
    this.#dice = new Dice(deps.seed, `${label} of ${deps.domain.name}`);
  }

  run(name: string, args: readonly unknown[], apply: () => Promise<unknown>): Promise<unknown> {
    const { time, faults, domain, onAnswer } = this.#deps;
    const slow = faults.hits("store.slow") ? this.#dice.log(10, 3_000) : 0;
    this.#lastAt = Math.max(this.#lastAt + 1, time.now + this.#dice.pick([1, 1, 1, 2, 5]) + slow);
    return new Promise((resolve, reject) => {
      const settle = (ms: number, call: () => void): void => void time.schedule(domain, ms, call);
      time.schedule(domain, this.#lastAt - time.now, () => {
        this.#apply(name, args, apply).then(
          ({ value, failure }) =>
            failure === null
              ? settle(this.#dice.pick([0, 0, 0, 1, 3]), () => {
                  onAnswer(name, args);
                  resolve(value);
                })
              : settle(failure.ms, () => reject(new Error(failure.text))),
          // The adapter's own refusal, such as a key that is taken.
          (error: unknown) => settle(0, () => reject(error as Error)),
        );
      });
    });
  }

  async #apply(name: string, args: readonly unknown[], apply: () => Promise<unknown>): Promise<Outcome> {
    const { time, faults, onWrite } = this.#deps;
    const fail = (text: string, ms: number): Outcome => ({ value: undefined, failure: { text, ms } });
    if (faults.hits("store.locked")) return fail("database is locked", BUSY_MS);
    if (faults.hits("store.full")) return fail("database or disk is full", 1);
    if (faults.hits("store.fails")) return fail("disk I/O error", 1);
    const value = await time.hold(apply());
    onWrite(name, args, value);
    if (faults.hits("store.answer_lost")) return fail("disk I/O error", 1);
    return { value, failure: null };
  }
}

export function openFaultyStore<T extends object>(deps: FaultyStoreDeps<T>, label: string): T {
  const { base, domain, faults, time, onLoop } = deps;
  const writes = new Writes(deps, label);
  const dice = new Dice(deps.seed, `reads of ${label} of ${domain.name}`);
  let reads = { step: 0, count: 0 };
  return new Proxy(base, {
    get(target, name: string) {
      const method = Reflect.get(target, name) as (...args: unknown[]) => Promise<unknown>;
      if (name === "close") return () => Promise.resolve();
      return (...args: unknown[]) => {
        const call = (): Promise<unknown> => Reflect.apply(method, target, args);
        if (!domain.alive) return never();
        if (WRITES.has(name)) return writes.run(name, args, call);
        reads = { step: time.steps, count: reads.step === time.steps ? reads.count + 1 : 1 };
        if (reads.count > READS) {
          onLoop(name);
          return never();
        }
        if (faults.hits("store.reads_fail")) return Promise.reject(new Error("disk I/O error"));
        return faults.hits("store.reads_slow") ? answerLater(deps, dice.log(1, 300), call()) : call();
      };
    },
  });
}

function answerLater<T>({ time, domain }: FaultyStoreDeps<T>, ms: number, read: Promise<unknown>): Promise<unknown> {
  return new Promise((resolve, reject) => {
    read.then((value) => void time.schedule(domain, ms, () => resolve(value)), reject);
  });
}

/** The task of a write, and the write's part that the log grows by. */
export function readWrite(name: string, args: readonly unknown[], result: unknown): Commit | NewTask | null {
  if (name === "commit") return result === null ? null : (args[0] as Commit);
  if (name === "create") return (result as { kind: string }).kind === "created" ? (args[0] as NewTask) : null;
  return null;
}
