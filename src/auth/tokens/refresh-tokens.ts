/**
 * The chain of refresh tokens of a session (rule H19).
 *
 * D1 A token that was replaced yields the same successor again within the grace period, for callers
 *    that refresh at the same time; and for as long as no access token that came with the successor
 *    was used: the answer was lost on its way, and the client has nothing else.
 * D2 After that it is a copy in other hands, and revokes its session.
 */
import type { Accounts, Session } from "../../core/ports/accounts.ts";
import type { Clock } from "../../core/ports/runtime.ts";
import { sha256, type RefreshToken, type TokenSigner } from "./signer.ts";

interface Options {
  readonly accounts: Pick<Accounts, "rotateSession" | "confirmSession" | "revokeSession">;
  readonly clock: Clock;
  readonly signer: TokenSigner;
  /** How long after a rotation the token before it is good in any case, ms. */
  readonly graceMs: number;
}

export class RefreshTokens {
  readonly #options: Options;
  /** Ids of sessions whose confirmation is being written. */
  readonly #confirming = new Set<string>();

  constructor(options: Options) {
    this.#options = options;
  }

  /**
   * The successor of the newest token, which it replaces. @param address of the client; "" = not
   * known. @returns null when another call has replaced it meanwhile.
   */
  async rotate(token: RefreshToken, session: Session, address: string): Promise<string | null> {
    const { accounts, clock, signer } = this.#options;
    const next = signer.nextRefresh(token);
    const place = address === "" ? undefined : address;
    const isDone = await accounts.rotateSession(session.id, session.tokenHash, sha256(next), clock.now(), place);
    return isDone ? next : null;
  }

  /** The successor of a token that was replaced (D1); null = the session is revoked (D2). */
  async replay(token: RefreshToken, session: Session): Promise<string | null> {
    const { accounts, clock, signer, graceMs } = this.#options;
    const now = clock.now();
    const next = sha256(token.text) === session.previousHash ? signer.successor(token, session.tokenHash) : null;
    if (next !== null && (session.confirmedAt === null || now - session.rotatedAt <= graceMs)) return next;
    await accounts.revokeSession(session.id, now);
    return null;
  }

  /**
   * An access token was used. One that is as new as the newest refresh token came with it. Callers
   * do not wait for the write, and do not fail with it. @param issuedAt in whole seconds, ms.
   */
  confirm(session: Session, issuedAt: number): void {
    if (session.confirmedAt !== null || issuedAt + 1_000 <= session.rotatedAt) return;
    if (this.#confirming.has(session.id)) return;
    this.#confirming.add(session.id);
    const { accounts, clock } = this.#options;
    void accounts
      .confirmSession(session.id, session.tokenHash, clock.now())
      .catch(() => undefined)
      .finally(() => this.#confirming.delete(session.id));
  }
}
