/**
 * What a device signs: random bytes, for one purpose and one signature.
 *
 * C1 A challenge travels in a sealed ticket, so strangers who ask for many of them take no memory.
 *    The seal is for one purpose and one run of the server.
 * C2 A challenge counts as used when a signature of it was proved: only who has a passkey fills
 *    the memory of used ones, which is bounded, and none is forgotten before it expires.
 */
import { randomBytes } from "node:crypto";
import { z } from "zod";
import { RateLimited, SlipwayError } from "../../core/error.ts";
import type { Clock } from "../../core/ports/runtime.ts";
import { sha256 } from "../tokens/signer.ts";
import type { Vault } from "../vault.ts";

export const CHALLENGE_MS = 5 * 60_000;
const MAX_USED = 10_000;

const sealedSchema = z.strictObject({
  /** base64url */
  challenge: z.string(),
  /** Epoch ms. */
  until: z.number(),
});
export type Challenge = z.infer<typeof sealedSchema>;

export class Challenges {
  readonly #vault: Vault;
  readonly #clock: Clock;
  /** A ticket of an earlier run could have been used then. */
  readonly #run = randomBytes(16).toString("base64url");
  /** Digests of used challenges, until when each could be used again. */
  readonly #used = new Map<string, number>();

  constructor(vault: Vault, clock: Clock) {
    this.#vault = vault;
    this.#clock = clock;
  }

  /** @param purpose who may answer it, and with what. */
  issue(purpose: string): { readonly ticket: string; readonly bytes: Uint8Array<ArrayBuffer> } {
    const bytes = new Uint8Array(randomBytes(32));
    const challenge = Buffer.from(bytes).toString("base64url");
    const until = this.#clock.now() + CHALLENGE_MS;
    const sealed = this.#vault.seal(JSON.stringify({ challenge, until } satisfies Challenge), this.#context(purpose));
    return { ticket: Buffer.from(sealed).toString("base64url"), bytes };
  }

  /** @throws SlipwayError `expired` for a ticket that is too old, used, or of another purpose. */
  open(ticket: string, purpose: string): Challenge {
    const found = this.#read(ticket, purpose);
    if (found === null || found.until <= this.#clock.now() || this.#used.has(sha256(found.challenge)))
      throw challengeExpired();
    return found;
  }

  /**
   * Marks a challenge whose signature was proved (C2), before anything is awaited.
   * @throws SlipwayError `expired` when it was used before, `rate_limited` when too many were.
   */
  use({ challenge, until }: Challenge): void {
    const now = this.#clock.now();
    const key = sha256(challenge);
    if (this.#used.has(key)) throw challengeExpired();
    for (const [used, end] of this.#used) if (end <= now) this.#used.delete(used);
    if (this.#used.size >= MAX_USED) throw new RateLimited(CHALLENGE_MS);
    this.#used.set(key, until);
  }

  #context(purpose: string): string {
    return `passkey ${this.#run} ${purpose}`;
  }

  #read(ticket: string, purpose: string): Challenge | null {
    try {
      const sealed = Buffer.from(ticket, "base64url").toString();
      return sealedSchema.parse(JSON.parse(this.#vault.open(sealed, this.#context(purpose))));
    } catch {
      return null;
    }
  }
}

function challengeExpired(): SlipwayError {
  return new SlipwayError("expired", "This took too long, or was done already. Begin again.");
}
