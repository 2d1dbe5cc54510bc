/**
 * The connection between a worker and the coordinator: it takes time, it can be cut, lose a request
 * or lose an answer, and it breaks when one of its ends does.
 */
import type { BrokerCallbacks } from "../../../src/core/ports/broker.ts";
import type { Dice } from "./dice.ts";
import type { Faults } from "./faults.ts";
import type { Domain, VirtualTime } from "./virtual-time.ts";

/** What a worker can reach of a running coordinator. */
export interface Server {
  readonly domain: Domain;
  readonly callbacks: BrokerCallbacks;
  isOpen(taskId: string, attempt: number): boolean;
}

export class Unreachable extends Error {}

/** `signal` is aborted when the caller is gone. */
export type Request<T> = (server: Server, signal: AbortSignal) => Promise<T>;

export interface WireDeps {
  readonly time: VirtualTime;
  readonly faults: Faults;
  /** The coordinator that listens now; null = none. */
  readonly server: () => Server | null;
}

export class Wire {
  readonly #deps: WireDeps;
  readonly #dice: Dice;
  readonly #domain: Domain;
  readonly #taskId: string;
  readonly #attempt: number;

  constructor(deps: WireDeps, dice: Dice, domain: Domain, taskId: string, attempt: number) {
    this.#deps = deps;
    this.#dice = dice;
    this.#domain = domain;
    this.#taskId = taskId;
    this.#attempt = attempt;
  }

  /** One request. Rejects with Unreachable when there is no answer. */
  async call<T>(request: Request<T>): Promise<T> {
    const { time, server } = this.#deps;
    await time.wait(this.#domain, this.#dice.log(1, 20));
    const found = server();
    if (found === null || !found.domain.alive || !found.isOpen(this.#taskId, this.#attempt) || this.#isLost()) {
      await time.wait(this.#domain, this.#dice.log(1, 200));
      throw new Unreachable("no connection");
    }
    return await this.#send(found, request);
  }

  #send<T>(server: Server, request: Request<T>): Promise<T> {
    const { time } = this.#deps;
    const gone = new AbortController();
    const forget = this.#domain.onEnd(() => gone.abort(new DOMException("The connection is closed", "AbortError")));
    return new Promise((resolve, reject) => {
      const answer = (call: () => void): void => {
        forget();
        unwatch();
        const broken = this.#isLost();
        time.schedule(this.#domain, this.#dice.log(1, 20), () =>
          broken ? reject(new Unreachable("no answer")) : call(),
        );
      };
      const unwatch = server.domain.onEnd(() => answer(() => reject(new Unreachable("the connection broke"))));
      time.schedule(server.domain, 0, () => {
        request(server, gone.signal).then(
          (value) => answer(() => resolve(value)),
          (error: unknown) => answer(() => reject(error as Error)),
        );
      });
    });
  }

  #isLost(): boolean {
    const { faults } = this.#deps;
    return faults.hits("network.cut") || faults.hits("network.lossy");
  }
}
