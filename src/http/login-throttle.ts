/**
 * Limits failed logins, refreshes and setups per address and per account (decision 030).
 *
 * T1 An attempt is counted before it is checked, so a hundred at once count as a hundred; a
 *    successful one is taken back.
 * T2 A rejected attempt creates no count, and a full table drops no count that is blocking:
 *    requests from many addresses or with invented accounts cannot reset another count.
 * T3 Memory is bounded: MAX_KEYS per table, MAX_WAITING per queue.
 */
import { isIPv6 } from "node:net";
import PQueue from "p-queue";
import { SlipwayError } from "../core/error.ts";
import type { Clock } from "../core/ports/runtime.ts";

const SECOND = 1_000;
const MINUTE = 60_000;
/** Failed attempts per address and minute. */
const PER_ADDRESS = 10;
/**
 * Failed attempts per account before each further one has to wait: 1 s, doubling to 5 min. An
 * account is never locked: its owner waits no longer than that.
 */
const PER_ACCOUNT = 5;
const ACCOUNT_WINDOW = 15 * MINUTE;
const DELAY = SECOND;
const DELAY_CAP = 5 * MINUTE;
/** Counts per table. */
const MAX_KEYS = 10_000;
/** Attempts that wait for their turn, per kind. */
const MAX_WAITING = 500;

export class RateLimited extends SlipwayError {
  readonly retryAfterSeconds: number;

  constructor(waitMs: number) {
    const seconds = Math.max(1, Math.ceil(waitMs / SECOND));
    super("rate_limited", `Try again in ${seconds} s.`);
    this.retryAfterSeconds = seconds;
  }
}

/** Each kind has its own counts and its own queue. */
export type AttemptKind = "login" | "refresh" | "setup";

export class LoginThrottle {
  readonly #clock: Clock;
  readonly #addresses = new CountTable();
  readonly #accounts = new CountTable();
  /**
   * Few attempts run at a time: an attempt counts as failed until it has succeeded, so many valid
   * ones at once must not reach the limit.
   */
  readonly #queues: Readonly<Record<AttemptKind, PQueue>> = {
    login: new PQueue({ concurrency: 2 }),
    refresh: new PQueue({ concurrency: 4 }),
    setup: new PQueue({ concurrency: 1 }),
  };

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Runs the attempt when its turn comes, or throws RateLimited. An attempt that does not throw is
   * not counted, and resets the count of its account.
   * @param account null = only the address counts.
   */
  async attempt<T>(kind: AttemptKind, ip: string, account: string | null, attempt: () => Promise<T>): Promise<T> {
    const queue = this.#queues[kind];
    if (queue.size >= MAX_WAITING) throw new RateLimited(SECOND);
    return queue.add(async () => {
      const accountKey = account === null ? null : `${kind} ${account.toLowerCase()}`;
      const undo = this.#countFailure(`${kind} ${getAddressGroup(ip)}`, accountKey);
      const result = await attempt();
      undo();
      return result;
    });
  }

  /** @returns a function that takes the failure back. */
  #countFailure(addressKey: string, accountKey: string | null): () => void {
    const now = this.#clock.monotonic();
    // The address first: an address that is blocked creates no count of an account (T2).
    const address = this.#addresses.get(addressKey, now, MINUTE);
    if (address.blockedUntil > now) throw new RateLimited(address.blockedUntil - now);
    const account = accountKey === null ? null : this.#accounts.get(accountKey, now, ACCOUNT_WINDOW);
    if (account !== null && account.blockedUntil > now) throw new RateLimited(account.blockedUntil - now);
    address.failures++;
    if (address.failures >= PER_ADDRESS) address.blockedUntil = address.resetAt;
    if (account !== null) {
      account.failures++;
      if (account.failures >= PER_ACCOUNT) {
        account.blockedUntil = now + Math.min(DELAY_CAP, DELAY * 2 ** (account.failures - PER_ACCOUNT));
        account.resetAt = Math.max(account.resetAt, now + ACCOUNT_WINDOW);
      }
    }
    return () => {
      address.failures--;
      address.blockedUntil = 0;
      if (accountKey !== null) this.#accounts.delete(accountKey);
    };
  }
}

interface Count {
  failures: number;
  /** The count restarts at 0 at this time of the monotonic clock. */
  resetAt: number;
  /** Attempts before this time of the monotonic clock are rejected. */
  blockedUntil: number;
}

/** Failures per key, at most MAX_KEYS of them. */
class CountTable {
  readonly #counts = new Map<string, Count>();

  /**
   * The count of the key, a new one if it has none.
   * @throws RateLimited when every count of a full table is blocking.
   */
  get(key: string, now: number, windowMs: number): Count {
    const known = this.#counts.get(key);
    if (known !== undefined && known.resetAt > now) return known;
    this.#counts.delete(key);
    if (this.#counts.size >= MAX_KEYS) this.#dropOldest(now);
    const count: Count = { failures: 0, resetAt: now + windowMs, blockedUntil: 0 };
    this.#counts.set(key, count);
    return count;
  }

  delete(key: string): void {
    this.#counts.delete(key);
  }

  #dropOldest(now: number): void {
    for (const [key, { blockedUntil }] of this.#counts) {
      if (blockedUntil > now) continue;
      this.#counts.delete(key);
      return;
    }
    throw new RateLimited(MINUTE);
  }
}

/** The /64 network of an IPv6 address, because one subscriber has all of it; else the address. */
function getAddressGroup(ip: string): string {
  const address = ip.replace(/^::ffff:(?=\d+\.)/, "");
  if (!isIPv6(address)) return address;
  const [head = "", tail = ""] = address.split("::");
  const left = head.split(":").filter(Boolean);
  const right = tail.split(":").filter(Boolean);
  const zeros = Array.from({ length: Math.max(0, 8 - left.length - right.length) }, () => "0");
  return [...left, ...zeros, ...right].slice(0, 4).join(":");
}
