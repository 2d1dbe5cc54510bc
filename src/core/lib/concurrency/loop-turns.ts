/**
 * Turns of the event loop for work that holds it, such as reading a long page and writing it as
 * JSON. What has many such pieces to do delays everybody else by one piece per turn.
 *
 * T1 Each piece begins in a turn of its own, also when no piece waits: many pieces can arrive in
 *    one turn, in the frames of one socket or in pipelined requests.
 * T2 The pieces of one owner run one after another, those of different owners side by side: an
 *    owner with a thousand pieces takes as much of a turn as an owner with one.
 */
import { setImmediate } from "node:timers/promises";
import { KeyedMutex } from "./keyed-mutex.ts";

export class LoopTurns {
  readonly #mutex = new KeyedMutex();

  run<T>(owner: string, work: () => Promise<T>): Promise<T> {
    return this.#mutex.run(owner, async () => {
      await setImmediate();
      return await work();
    });
  }

  /**
   * Resolves when the owner's next turn begins. For work that waits, so that its waits do not block
   * other owners.
   */
  next(owner: string): Promise<void> {
    return this.#mutex.run(owner, async () => await setImmediate());
  }
}
