/**
 * How often somebody may guess. Counted before the guess is judged, so that a hundred at once are a
 * hundred.
 */
import { isIPv6 } from "node:net";
import { SlipwayError } from "../core/error.ts";
import type { Clock } from "../core/ports/runtime.ts";

const MINUTE = 60_000;
/** Failed guesses per address and minute. */
const PER_ADDRESS = 10;
/**
 * Failed guesses per account before each further one has to wait: 1 s, doubling to 5 min. Never a
 * lock-out: the owner only waits too.
 */
const PER_ACCOUNT = 5;
const ACCOUNT_WINDOW = 15 * MINUTE;
const DELAY = 1_000;
const DELAY_CAP = 5 * MINUTE;
/** Keys remembered at once; the oldest go first. */
const MEMORY = 20_000;
/** Guesses that may wait for their turn. */
const LINE = 500;

export class RateLimited extends SlipwayError {
  readonly retryAfterSeconds: number;

  constructor(waitMs: number) {
    const seconds = Math.max(1, Math.ceil(waitMs / 1_000));
    super("rate_limited", `Try again in ${seconds} s.`);
    this.retryAfterSeconds = seconds;
  }
}

interface Count {
  failures: number;
  /** When the count starts anew. */
  resetAt: number;
  /** No guess before this. */
  nextAt: number;
}

/** What is guessed at. Each kind has its own counts and its own lane. */
export type AttemptKind = "login" | "refresh" | "setup";

export class LoginThrottle {
  readonly #clock: Clock;
  readonly #counts = new Map<string, Count>();
  readonly #lanes: Readonly<Record<AttemptKind, Lane>> = {
    login: new Lane(2),
    refresh: new Lane(4),
    setup: new Lane(1),
  };

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Lets one guess through when its turn comes, or throws RateLimited. A guess that does not throw
   * is forgotten. `account` null = only the address counts.
   */
  attempt<T>(kind: AttemptKind, ip: string, account: string | null, attempt: () => Promise<T>): Promise<T> {
    return this.#lanes[kind].run(async () => {
      const right = this.#admit(
        `${kind} ip ${addressGroup(ip)}`,
        account === null ? null : `${kind} account ${account.toLowerCase()}`,
      );
      const result = await attempt();
      right();
      return result;
    });
  }

  /** Counts a failure; what it returns takes it back. */
  #admit(addressKey: string, accountKey: string | null): () => void {
    const now = this.#clock.now();
    const address = this.#count(addressKey, now, MINUTE);
    const account = accountKey === null ? null : this.#count(accountKey, now, ACCOUNT_WINDOW);
    if (address.failures >= PER_ADDRESS) throw new RateLimited(address.resetAt - now);
    if (account !== null && account.nextAt > now) throw new RateLimited(account.nextAt - now);
    address.failures++;
    if (account !== null) fail(account, now);
    return () => {
      address.failures--;
      if (accountKey !== null) this.#counts.delete(accountKey);
    };
  }

  #count(key: string, now: number, windowMs: number): Count {
    const known = this.#counts.get(key);
    if (known !== undefined && known.resetAt > now) return known;
    this.#counts.delete(key);
    const fresh = { failures: 0, resetAt: now + windowMs, nextAt: 0 };
    this.#counts.set(key, fresh);
    for (const oldest of this.#counts.keys()) {
      if (this.#counts.size <= MEMORY) break;
      this.#counts.delete(oldest);
    }
    return fresh;
  }
}

function fail(count: Count, now: number): void {
  count.failures++;
  if (count.failures < PER_ACCOUNT) return;
  count.nextAt = now + Math.min(DELAY_CAP, DELAY * 2 ** (count.failures - PER_ACCOUNT));
  count.resetAt = Math.max(count.resetAt, now + ACCOUNT_WINDOW);
}

/** One subscriber owns a whole /64 of IPv6. */
function addressGroup(ip: string): string {
  const plain = ip.replace(/^::ffff:(?=\d+\.)/, "");
  if (!isIPv6(plain)) return plain;
  const [head = "", tail = ""] = plain.split("::");
  const left = head.split(":").filter(Boolean);
  const right = tail.split(":").filter(Boolean);
  const zeros = Array.from({ length: Math.max(0, 8 - left.length - right.length) }, () => "0");
  return [...left, ...zeros, ...right].slice(0, 4).join(":");
}

/**
 * Few at a time, the rest in line: guesses under way count as failures, so many right ones at once
 * must not look like an attack.
 */
class Lane {
  #free: number;
  readonly #line: (() => void)[] = [];

  constructor(width: number) {
    this.#free = width;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#line.length >= LINE) throw new RateLimited(MINUTE / 60);
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#line.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#line.shift();
      if (next === undefined) this.#free++;
      else next();
    }
  }
}
