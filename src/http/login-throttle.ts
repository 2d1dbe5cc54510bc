/**
 * Limits failed logins, refreshes and setups per address, and per account and address (decisions
 * 030 and 047).
 *
 * T1 An attempt is counted before it is checked, so a hundred at once count as a hundred; a
 *    successful one is taken back.
 * T2 A rejected attempt creates no count, and no count is dropped before it ends: neither requests
 *    from many addresses nor invented accounts can reset another count. Keys that find the table
 *    full share a few counts.
 * T3 No client can lock a person out from another address: an account waits only where it was
 *    guessed, and where it has logged in before, failures of others behind the same address do not
 *    count.
 * T4 Memory is bounded: MAX_KEYS and SHARED_KEYS per table, MAX_WAITING per queue.
 */
import { createHash, randomBytes } from "node:crypto";
import { isIPv6 } from "node:net";
import PQueue from "p-queue";
import { RateLimited } from "../core/error.ts";
import type { Clock } from "../core/ports/runtime.ts";

const SECOND = 1_000;
const MINUTE = 60_000;
/** Failed attempts per address (of IPv6: per /64) and minute. */
const PER_ADDRESS = 10;
/** And per IPv6 /48, of which one customer may have all. */
const PER_NETWORK = 50;
/**
 * Failed attempts per account and address before each further one has to wait: 1 s, doubling to
 * 5 min.
 */
const PER_ACCOUNT = 5;
const ACCOUNT_WINDOW = 15 * MINUTE;
const DELAY = SECOND;
const DELAY_CAP = 5 * MINUTE;
/** Counts per table, and counts that further keys share when it is full. */
const MAX_KEYS = 10_000;
const SHARED_KEYS = 1_024;
/** Pairs of account and address that logged in, the newest. */
const MAX_KNOWN = 10_000;
/** Attempts that wait for their turn, per kind. */
const MAX_WAITING = 500;

/** Each kind has its own counts and its own queue. */
export type AttemptKind = "login" | "refresh" | "setup" | "provider" | "password" | "device" | "passkey";

export class LoginThrottle {
  readonly #clock: Clock;
  readonly #addresses = new CountTable();
  readonly #accounts = new CountTable();
  /** Pairs of account and address that logged in, the oldest first (T3). */
  readonly #known = new Set<string>();
  /**
   * Few attempts run at a time: an attempt counts as failed until it has succeeded, so many valid
   * ones at once must not reach the limit.
   */
  readonly #queues: Readonly<Record<AttemptKind, PQueue>> = {
    login: new PQueue({ concurrency: 2 }),
    refresh: new PQueue({ concurrency: 4 }),
    setup: new PQueue({ concurrency: 1 }),
    provider: new PQueue({ concurrency: 8 }),
    password: new PQueue({ concurrency: 2 }),
    device: new PQueue({ concurrency: 8 }),
    passkey: new PQueue({ concurrency: 4 }),
  };

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Runs the attempt when its turn comes, or throws RateLimited. An attempt that does not throw is
   * not counted, and resets the count of its account at this address.
   * @param account null = only the address counts.
   */
  attempt<T>(kind: AttemptKind, ip: string, account: string | null, attempt: () => Promise<T>): Promise<T> {
    return this.inTurn(kind, async () => {
      const [address, network] = getAddressGroups(ip);
      const pair = account === null ? null : `${kind} ${address} ${account.toLowerCase()}`;
      const undo = this.#countFailure(kind, address, network, pair);
      const result = await attempt();
      undo();
      if (pair !== null) this.#remember(pair);
      return result;
    });
  }

  /** Queues a log-in whose secret cannot be guessed. Attempts are not counted. */
  inTurn<T>(kind: AttemptKind, work: () => Promise<T>): Promise<T> {
    const queue = this.#queues[kind];
    if (queue.size >= MAX_WAITING) throw new RateLimited(SECOND);
    return queue.add(work);
  }

  /** @returns a function that takes the failure back. */
  #countFailure(kind: AttemptKind, address: string, network: string | null, pair: string | null): () => void {
    const now = this.#clock.monotonic();
    const places: [key: string, limit: number][] = [[`${kind} ${address}`, PER_ADDRESS]];
    if (network !== null) places.push([`${kind} ${network}`, PER_NETWORK]);
    // Every check comes before the first count: a rejected attempt creates none (T2).
    const isKnown = pair !== null && this.#known.has(pair);
    if (!isKnown) for (const [key] of places) this.#addresses.assertOpen(key, now);
    if (pair !== null) this.#accounts.assertOpen(pair, now);
    const counts = places.map(([key, limit]) => {
      const count = this.#addresses.add(key, now, MINUTE);
      if (count.failures >= limit) count.blockedUntil = count.resetAt;
      return { count, limit };
    });
    if (pair !== null) {
      const account = this.#accounts.add(pair, now, ACCOUNT_WINDOW);
      if (account.failures >= PER_ACCOUNT) {
        account.blockedUntil = now + Math.min(DELAY_CAP, DELAY * 2 ** (account.failures - PER_ACCOUNT));
        account.resetAt = Math.max(account.resetAt, now + ACCOUNT_WINDOW);
      }
    }
    return () => {
      for (const { count, limit } of counts) {
        count.failures--;
        // A success where others failed does not take back their failures.
        if (count.failures < limit) count.blockedUntil = 0;
      }
      if (pair !== null) this.#accounts.clear(pair);
    };
  }

  #remember(pair: string): void {
    this.#known.delete(pair);
    for (const oldest of this.#known) {
      if (this.#known.size < MAX_KNOWN) break;
      this.#known.delete(oldest);
    }
    this.#known.add(pair);
  }
}

interface Count {
  failures: number;
  /** The count restarts at 0 at this time of the monotonic clock. */
  resetAt: number;
  /** Attempts before this time of the monotonic clock are rejected. */
  blockedUntil: number;
}

/** Failures per key. A count is kept until it ends, however many others there are (T2). */
class CountTable {
  readonly #counts = new Map<string, Count>();
  /** Which keys share a count must not be predictable. */
  readonly #salt = randomBytes(16);

  /** @throws RateLimited while the count of the key blocks. Creates no count. */
  assertOpen(key: string, now: number): void {
    const count = this.#counts.get(this.#place(key));
    if (count !== undefined && count.blockedUntil > now) throw new RateLimited(count.blockedUntil - now);
  }

  /** Counts one failure. */
  add(key: string, now: number, windowMs: number): Count {
    if (this.#counts.size >= MAX_KEYS && !this.#counts.has(key)) this.#dropEnded(now);
    const place = this.#place(key);
    const known = this.#counts.get(place);
    const count = known !== undefined && known.resetAt > now ? known : { failures: 0, resetAt: 0, blockedUntil: 0 };
    if (count.resetAt === 0) count.resetAt = now + windowMs;
    count.failures++;
    this.#counts.set(place, count);
    return count;
  }

  /** A shared count stays: it is also that of others. */
  clear(key: string): void {
    this.#counts.delete(key);
  }

  /** The key itself, or the count that it shares while the table is full. */
  #place(key: string): string {
    if (this.#counts.has(key) || this.#counts.size < MAX_KEYS) return key;
    const digest = createHash("sha256").update(this.#salt).update(key).digest();
    return `shared ${digest.readUInt32BE(0) % SHARED_KEYS}`;
  }

  #dropEnded(now: number): void {
    for (const [key, { resetAt, blockedUntil }] of this.#counts)
      if (resetAt <= now && blockedUntil <= now) this.#counts.delete(key);
  }
}

/**
 * The address and, for IPv6, its network: one subscriber has a whole /64, and many a /48. Null for
 * IPv4.
 */
function getAddressGroups(ip: string): [address: string, network: string | null] {
  const address = ip.replace(/^::ffff:(?=\d+\.)/, "");
  if (!isIPv6(address)) return [address, null];
  const [head = "", tail = ""] = address.split("::");
  const left = head.split(":").filter(Boolean);
  const right = tail.split(":").filter(Boolean);
  const zeros = Array.from({ length: Math.max(0, 8 - left.length - right.length) }, () => "0");
  const parts = [...left, ...zeros, ...right];
  return [parts.slice(0, 4).join(":"), `${parts.slice(0, 3).join(":")}/48`];
}
