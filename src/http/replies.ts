/**
 * Requests with an Idempotency-Key (rule R5): one effect, and the same answer each time.
 *
 * I1 Of the requests with one caller, endpoint and key one runs; those that arrive meanwhile get
 *    its answer, or its error.
 * I2 The answer is kept before it is sent, so a request that is sent again gets it, also after a
 *    restart. It is sealed, because some answers contain a secret.
 * I3 An error is not kept: the request had no effect and may be sent again.
 * I4 When the process dies between the effect and I2, the repeated request runs again. It has no
 *    second effect, because the ids of what it makes are derived from the key.
 */
import { createHash } from "node:crypto";
import { SlipwayError, errorMessage } from "../core/error.ts";
import type { Accounts, ReplyAddress } from "../core/ports/accounts.ts";
import type { Clock, Log } from "../core/ports/runtime.ts";
import type { Replay, RouteReply, Sealer } from "./route.ts";

export interface RepliesDeps {
  readonly accounts: Pick<Accounts, "reply" | "putReply">;
  readonly vault: Sealer;
  readonly clock: Clock;
  readonly log: Log;
}

export interface KeyedRequest {
  /** Empty for calls without authentication. */
  readonly userId: string;
  /** Method and path, with the ids. */
  readonly endpoint: string;
  readonly key: string;
  readonly body: unknown;
}

type KeptIn = Exclude<Replay, "handler">;
/** What is kept of an answer. */
type Kept = Pick<RouteReply, "status" | "body" | "headers">;
interface KeptReply {
  readonly fingerprint: string;
  readonly reply: Kept;
}

const KEEP_MS = 24 * 3_600_000;
const KEEP_PER_USER = 500;
/** UTF-16 units of an answer that is kept at most. */
const KEEP_LENGTH = 128 * 1_024;
const KEEP_IN_MEMORY = 1_000;

export class Replies {
  readonly #deps: RepliesDeps;
  readonly #running = new Map<string, { readonly fingerprint: string; readonly reply: Promise<RouteReply> }>();
  /** Answers that live as long as this process, oldest first. */
  readonly #recent = new Map<string, KeptReply & { readonly until: number }>();

  constructor(deps: RepliesDeps) {
    this.#deps = deps;
  }

  /** @throws SlipwayError `idempotency_mismatch` when the key came with another body. */
  run(request: KeyedRequest, replay: KeptIn, handle: () => Promise<RouteReply>): Promise<RouteReply> {
    const id = JSON.stringify([request.userId, request.endpoint, request.key]);
    const fingerprint = fingerprintOf(request.body);
    const running = this.#running.get(id);
    if (running !== undefined) {
      assertSame(running.fingerprint, fingerprint);
      return running.reply;
    }
    const reply = this.#runOnce(id, request, fingerprint, replay, handle).finally(() => this.#running.delete(id));
    this.#running.set(id, { fingerprint, reply });
    return reply;
  }

  async #runOnce(
    id: string,
    request: KeyedRequest,
    fingerprint: string,
    replay: KeptIn,
    handle: () => Promise<RouteReply>,
  ): Promise<RouteReply> {
    const known = replay === "store" ? await this.#read(request) : this.#recall(id);
    if (known !== null) {
      assertSame(known.fingerprint, fingerprint);
      return known.reply;
    }
    const reply = await handle();
    const { status, body, headers } = reply;
    const kept: KeptReply = { fingerprint, reply: { status, body, ...(headers === undefined ? {} : { headers }) } };
    if (replay === "store") await this.#write(request, kept);
    else this.#remember(id, kept, replay.memoryMs);
    return reply;
  }

  async #read(request: KeyedRequest): Promise<KeptReply | null> {
    const { accounts, vault, clock, log } = this.#deps;
    const row = await accounts.reply(request);
    if (row === null || row.at <= clock.now() - KEEP_MS) return null;
    try {
      return JSON.parse(vault.open(row.sealed, contextOf(request))) as KeptReply;
    } catch (error) {
      log.warn({ endpoint: request.endpoint, error: errorMessage(error) }, "a kept answer cannot be opened");
      return null;
    }
  }

  /** A failure is logged: the effect is there, so the answer is sent in any case. */
  async #write(request: KeyedRequest, kept: KeptReply): Promise<void> {
    const { accounts, vault, clock, log } = this.#deps;
    const text = JSON.stringify(kept);
    if (text.length > KEEP_LENGTH) return;
    const { userId, endpoint, key } = request;
    const at = clock.now();
    const row = { userId, endpoint, key, at, sealed: vault.seal(text, contextOf(request)) };
    await accounts
      .putReply(row, { after: at - KEEP_MS, perUser: KEEP_PER_USER })
      .catch((error: unknown) => log.warn({ endpoint, error: errorMessage(error) }, "an answer was not kept"));
  }

  #recall(id: string): KeptReply | null {
    const found = this.#recent.get(id);
    return found !== undefined && found.until > this.#deps.clock.now() ? found : null;
  }

  #remember(id: string, kept: KeptReply, ms: number): void {
    const now = this.#deps.clock.now();
    for (const [key, { until }] of this.#recent)
      if (until <= now || this.#recent.size >= KEEP_IN_MEMORY) this.#recent.delete(key);
    this.#recent.set(id, { ...kept, until: now + ms });
  }
}

/** In memory or sealed only: the body may contain a password. */
function fingerprintOf(body: unknown): string {
  return createHash("sha256")
    .update(JSON.stringify(body ?? null))
    .digest("hex");
}

function assertSame(known: string, fingerprint: string): void {
  if (known !== fingerprint)
    throw new SlipwayError("idempotency_mismatch", "Use a new Idempotency-Key for a new request.");
}

function contextOf({ userId, endpoint, key }: ReplyAddress): string {
  return `reply ${JSON.stringify([userId, endpoint, key])}`;
}
