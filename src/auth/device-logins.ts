/**
 * Log-ins of programs without a browser, by the rules of RFC 8628: the program shows a short code,
 * and a person who is logged in elsewhere approves it.
 *
 * D1 Nothing is approved by opening an address: the person sees which program asks, from where and
 *    since when, and decides.
 * D2 The long code is secret, good once and for ten minutes; the short one alone opens nothing.
 *    Both are kept as digests, in memory: a restart ends what is open.
 * D3 One address has few open codes, so a stranger cannot take the room of others; a program that
 *    asks too often is told to slow down.
 */
import { randomBytes, randomInt } from "node:crypto";
import type { Accounts } from "../core/ports/accounts.ts";
import type { Clock } from "../core/ports/runtime.ts";
import { RateLimited, SlipwayError } from "../core/error.ts";
import type { AuthenticatedCaller, ClientInfo, Sessions, TokenGrant } from "./sessions.ts";
import { sha256 } from "./tokens.ts";

const TTL_MS = 10 * 60_000;
const INTERVAL_MS = 5_000;
const SLOWER_MS = 5_000;
const PER_ADDRESS = 20;
const MOST = 5_000;
/** Consonants that are read alike by nobody, 34 bits in eight of them (RFC 8628, 6.1). */
const LETTERS = "BCDFGHJKLMNPQRSTVWXZ";
const LENGTH = 8;

interface Request {
  readonly userCodeHash: string;
  readonly client: Pick<ClientInfo, "device" | "address">;
  /** The `client_id` of RFC 8628; null = the program did not say one. */
  readonly clientId: string | null;
  readonly startedAt: number;
  intervalMs: number;
  lastPollAt: number | null;
  decision: { readonly userId: string } | "denied" | null;
}

export interface DeviceStart {
  readonly deviceCode: string;
  /** `XXXX-XXXX` */
  readonly userCode: string;
  readonly expiresIn: number;
  readonly interval: number;
}

export interface PendingDevice {
  readonly device: string;
  readonly address: string;
  readonly startedAt: number;
}

export type DevicePoll =
  /** `isTooSoon`: the interval was not kept, and has grown. */
  | { readonly state: "pending"; readonly interval: number; readonly isTooSoon: boolean }
  | { readonly state: "done"; readonly grant: TokenGrant };

export interface DeviceLoginDeps {
  readonly accounts: Pick<Accounts, "user">;
  readonly sessions: Pick<Sessions, "begin">;
  readonly clock: Clock;
}

export class DeviceLogins {
  readonly #deps: DeviceLoginDeps;
  /** By the digest of the long code. */
  readonly #requests = new Map<string, Request>();

  constructor(deps: DeviceLoginDeps) {
    this.#deps = deps;
  }

  /** @throws SlipwayError `rate_limited` when too many codes are open (D3). */
  start({ device, address }: ClientInfo, clientId: string | null = null): DeviceStart {
    this.#dropExpired();
    const ofAddress = [...this.#requests.values()].filter(({ client }) => client.address === address);
    if (ofAddress.length >= PER_ADDRESS || this.#requests.size >= MOST) throw new RateLimited(60_000);
    const deviceCode = `dev_${randomBytes(32).toString("base64url")}`;
    const letters = Array.from({ length: LENGTH }, () => LETTERS.charAt(randomInt(LETTERS.length))).join("");
    this.#requests.set(sha256(deviceCode), {
      userCodeHash: sha256(letters),
      client: { device, address },
      clientId,
      startedAt: this.#deps.clock.now(),
      intervalMs: INTERVAL_MS,
      lastPollAt: null,
      decision: null,
    });
    const userCode = `${letters.slice(0, LENGTH / 2)}-${letters.slice(LENGTH / 2)}`;
    return { deviceCode, userCode, expiresIn: TTL_MS / 1_000, interval: INTERVAL_MS / 1_000 };
  }

  /** What the person decides about. @throws SlipwayError `expired`. */
  look(userCode: string): PendingDevice {
    const { client, startedAt } = this.#find(userCode);
    return { ...client, startedAt };
  }

  /** @throws SlipwayError `expired`, `forbidden` for a personal token. */
  decide(caller: AuthenticatedCaller, userCode: string, isAllowed: boolean): void {
    if (caller.via !== "session") throw new SlipwayError("forbidden", "Only a person who is logged in approves this.");
    this.#find(userCode).decision = isAllowed ? { userId: caller.userId } : "denied";
  }

  /**
   * What became of the request; `done` once. @throws SlipwayError `expired` when it is over, and
   * `forbidden` when the person refused it.
   * @param clientId the one of `start`.
   */
  async poll(deviceCode: string, client: ClientInfo, clientId: string | null = null): Promise<DevicePoll> {
    const key = sha256(deviceCode);
    const now = this.#deps.clock.now();
    this.#dropExpired();
    const request = this.#requests.get(key);
    if (request === undefined || request.clientId !== clientId) throw codeExpired();
    const { decision, lastPollAt } = request;
    const isTooSoon = lastPollAt !== null && now - lastPollAt < request.intervalMs;
    if (isTooSoon) request.intervalMs += SLOWER_MS;
    request.lastPollAt = now;
    if (decision === null) return { state: "pending", interval: request.intervalMs / 1_000, isTooSoon };
    // Before the first await: two polls at once must not make two sessions.
    this.#requests.delete(key);
    if (decision === "denied") throw new SlipwayError("forbidden", "The log-in was refused in the browser.");
    const user = await this.#deps.accounts.user(decision.userId);
    if (user === null || user.disabledAt !== null) throw codeExpired();
    return { state: "done", grant: await this.#deps.sessions.begin(user, client) };
  }

  #find(userCode: string): Request {
    this.#dropExpired();
    const hash = sha256(userCode.toUpperCase().replaceAll(/[^A-Z]/g, ""));
    const found = [...this.#requests.values()].find((request) => request.userCodeHash === hash);
    if (found === undefined || found.decision !== null) throw codeExpired();
    return found;
  }

  #dropExpired(): void {
    const now = this.#deps.clock.now();
    for (const [key, { startedAt }] of this.#requests) if (now - startedAt >= TTL_MS) this.#requests.delete(key);
  }
}

function codeExpired(): SlipwayError {
  return new SlipwayError("expired", "This code is wrong, was used, or has expired. Run slipway login again.");
}
