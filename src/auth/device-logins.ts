/**
 * Log-ins of programs without a browser, by the rules of RFC 8628: the program shows a short code,
 * and a person who is logged in elsewhere approves it. A phone begins one by a link that the person
 * shows it (D4).
 *
 * D1 Nothing is approved by opening an address: the person sees which program asks, from where and
 *    since when, and decides.
 * D2 The long code is secret, good once and for ten minutes; the short one alone opens nothing.
 *    Both are kept as digests, in memory: a restart ends what is open.
 * D3 One address has few open codes, so a stranger cannot take the room of others; a program that
 *    asks too often is told to slow down.
 * D4 The token of an offered link begins one log-in, which only the session that offered it sees
 *    and decides: who photographed the link gets nothing without it. A session has one offer.
 */
import { randomBytes, randomInt } from "node:crypto";
import type { Accounts } from "../core/ports/accounts.ts";
import type { Clock } from "../core/ports/runtime.ts";
import { RateLimited, SlipwayError } from "../core/error.ts";
import type { AuthenticatedCaller, ClientInfo, Sessions, TokenGrant } from "./sessions.ts";
import { sha256 } from "./tokens/signer.ts";

const TTL_MS = 10 * 60_000;
const INTERVAL_MS = 5_000;
const SLOWER_MS = 5_000;
const PER_ADDRESS = 20;
const MOST = 5_000;
const OFFER_MS = 5 * 60_000;
/** Consonants that cannot be mistaken for others; eight hold 34 bits (RFC 8628, 6.1). */
const LETTERS = "BCDFGHJKLMNPQRSTVWXZ";
const LENGTH = 8;

interface Request {
  readonly userCodeHash: string;
  readonly client: Pick<ClientInfo, "device" | "address">;
  /** The `client_id` of RFC 8628; null = the program did not say one. */
  readonly clientId: string | null;
  /** The session that alone decides (D4), and the code that it shows; null = who types the code. */
  readonly offer: { readonly sessionId: string; readonly userCode: string } | null;
  readonly startedAt: number;
  intervalMs: number;
  lastPollAt: number | null;
  decision: { readonly userId: string } | "denied" | null;
}

interface Offer {
  readonly hash: string;
  readonly userId: string;
  readonly until: number;
  /** The log-in that the link started; null = the link is unused. */
  request: Request | null;
}

/** What became of an offered link. */
export type OfferState =
  | { readonly state: "waiting" }
  | ({ readonly state: "asked"; readonly userCode: string } & PendingDevice);

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
  /** By the id of the session. */
  readonly #offers = new Map<string, Offer>();

  constructor(deps: DeviceLoginDeps) {
    this.#deps = deps;
  }

  /** @throws SlipwayError `rate_limited` when too many codes are open (D3). */
  start(client: ClientInfo, clientId: string | null = null): DeviceStart {
    return this.#start(client, clientId, null).started;
  }

  #start({ device, address }: ClientInfo, clientId: string | null, sessionId: string | null) {
    this.#dropExpired();
    const ofAddress = [...this.#requests.values()].filter(({ client }) => client.address === address);
    if (ofAddress.length >= PER_ADDRESS || this.#requests.size >= MOST) throw new RateLimited(60_000);
    const deviceCode = `dev_${randomBytes(32).toString("base64url")}`;
    const letters = Array.from({ length: LENGTH }, () => LETTERS.charAt(randomInt(LETTERS.length))).join("");
    const userCode = `${letters.slice(0, LENGTH / 2)}-${letters.slice(LENGTH / 2)}`;
    const request: Request = {
      userCodeHash: sha256(letters),
      client: { device, address },
      clientId,
      offer: sessionId === null ? null : { sessionId, userCode },
      startedAt: this.#deps.clock.now(),
      intervalMs: INTERVAL_MS,
      lastPollAt: null,
      decision: null,
    };
    this.#requests.set(sha256(deviceCode), request);
    const started: DeviceStart = {
      deviceCode,
      userCode,
      expiresIn: TTL_MS / 1_000,
      interval: INTERVAL_MS / 1_000,
    };
    return { request, started };
  }

  // ---------------------------------------------------------------- links for a phone (D4)

  /** The token of a new link; one that this session offered before ends. */
  offer(caller: AuthenticatedCaller): { readonly token: string; readonly expiresIn: number } {
    const sessionId = sessionOf(caller);
    this.withdraw(caller);
    const token = `pair_${randomBytes(32).toString("base64url")}`;
    const until = this.#deps.clock.now() + OFFER_MS;
    this.#offers.set(sessionId, { hash: sha256(token), userId: caller.userId, until, request: null });
    return { token, expiresIn: OFFER_MS / 1_000 };
  }

  /** Begins the log-in of a link, once. @throws SlipwayError `expired`, `rate_limited`. */
  claim(token: string, client: ClientInfo): DeviceStart {
    this.#dropExpired();
    const hash = sha256(token);
    const [sessionId, offer] = [...this.#offers].find(([, one]) => one.hash === hash) ?? [];
    if (sessionId === undefined || offer === undefined || offer.request !== null) throw offerExpired();
    if (client.act !== undefined) client.act.entry = { ...client.act.entry, target: offer.userId };
    const { request, started } = this.#start(client, null, sessionId);
    offer.request = request;
    return started;
  }

  /**
   * The state of the caller's link. @throws SlipwayError `expired` when the caller has no open
   * link.
   */
  offered(caller: AuthenticatedCaller): OfferState {
    this.#dropExpired();
    const offer = this.#offers.get(sessionOf(caller));
    if (offer === undefined) throw offerExpired();
    const { request } = offer;
    if (request === null || request.offer === null) return { state: "waiting" };
    return { state: "asked", userCode: request.offer.userCode, ...request.client, startedAt: request.startedAt };
  }

  /** Ends the caller's link, and the log-in that it began. Idempotent. */
  withdraw(caller: AuthenticatedCaller): void {
    const sessionId = sessionOf(caller);
    this.#offers.delete(sessionId);
    for (const [key, { offer, decision }] of this.#requests)
      if (offer?.sessionId === sessionId && decision === null) this.#requests.delete(key);
  }

  // ---------------------------------------------------------------- decisions

  /** What the person decides about. @throws SlipwayError `expired`. */
  look(caller: AuthenticatedCaller, userCode: string): PendingDevice {
    const { client, startedAt } = this.#find(caller, userCode);
    return { ...client, startedAt };
  }

  /** @throws SlipwayError `expired`, `forbidden` for a personal token. */
  decide(caller: AuthenticatedCaller, userCode: string, isAllowed: boolean): void {
    if (caller.via !== "session") throw new SlipwayError("forbidden", "Only a person who is logged in approves this.");
    const request = this.#find(caller, userCode);
    request.decision = isAllowed ? { userId: caller.userId } : "denied";
    if (request.offer !== null) this.#offers.delete(request.offer.sessionId);
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

  #find({ sessionId }: AuthenticatedCaller, userCode: string): Request {
    this.#dropExpired();
    const hash = sha256(userCode.toUpperCase().replaceAll(/[^A-Z]/g, ""));
    const found = [...this.#requests.values()].find((request) => request.userCodeHash === hash);
    if (found === undefined || found.decision !== null) throw codeExpired();
    if (found.offer !== null && found.offer.sessionId !== sessionId) throw codeExpired();
    return found;
  }

  #dropExpired(): void {
    const now = this.#deps.clock.now();
    for (const [key, { startedAt }] of this.#requests) if (now - startedAt >= TTL_MS) this.#requests.delete(key);
    for (const [key, { until }] of this.#offers) if (now >= until) this.#offers.delete(key);
  }
}

function sessionOf({ via, sessionId }: AuthenticatedCaller): string {
  if (via === "session" && sessionId !== null) return sessionId;
  throw new SlipwayError("forbidden", "Only a person who is logged in does this.");
}

function offerExpired(): SlipwayError {
  return new SlipwayError("expired", "This link was used, withdrawn, or has expired. Show a new one under You.");
}

function codeExpired(): SlipwayError {
  return new SlipwayError("expired", "This code is wrong, was used, or has expired. Run slipway login again.");
}
