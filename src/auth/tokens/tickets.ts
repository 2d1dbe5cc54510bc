/** One-time secrets for opening a socket. Kept in memory: a restart invalidates them. */
import { randomBytes } from "node:crypto";
import type { Clock } from "../../core/ports/runtime.ts";
import { sha256 } from "./signer.ts";

const TICKETS = 10_000;

export class Tickets<Caller> {
  readonly #clock: Clock;
  readonly #ttlMs: number;
  readonly #tickets = new Map<string, { readonly caller: Caller; readonly until: number }>();

  constructor(clock: Clock, ttlMs: number) {
    this.#clock = clock;
    this.#ttlMs = ttlMs;
  }

  issue(caller: Caller): string {
    const now = this.#clock.now();
    for (const [key, { until }] of this.#tickets)
      if (until <= now || this.#tickets.size >= TICKETS) this.#tickets.delete(key);
    const ticket = randomBytes(32).toString("base64url");
    this.#tickets.set(sha256(ticket), { caller, until: now + this.#ttlMs });
    return ticket;
  }

  /** The caller of a ticket, once; null for a used, expired or unknown one. */
  redeem(ticket: string): Caller | null {
    const key = sha256(ticket);
    const found = this.#tickets.get(key);
    this.#tickets.delete(key);
    return found !== undefined && found.until > this.#clock.now() ? found.caller : null;
  }
}
