/** Personal access tokens: made once, shown once, stored as a digest. */
import type { AccessToken, Accounts, Scope } from "../../core/ports/accounts.ts";
import { ALL_SCOPES } from "../../core/roles.ts";
import type { Clock, Ids } from "../../core/ports/runtime.ts";
import { newPersonalToken, sha256, shortDigest } from "./signer.ts";

const DAY = 24 * 60 * 60 * 1_000;

export interface NewToken {
  readonly userId: string;
  readonly name: string;
  /** Null = it does not expire. */
  readonly ttlMs: number | null;
  /** With a key, a token that the same key made and nobody used is replaced (rule R5). */
  readonly key: string | null;
  readonly scopes?: readonly Scope[] | undefined;
}

export interface PersonalTokenDeps {
  readonly accounts: Pick<Accounts, "tokens" | "createToken" | "deleteToken">;
  readonly clock: Clock;
  readonly ids: Ids;
}

/** The returned token is not stored and cannot be read again. */
export async function createPersonalToken(
  deps: PersonalTokenDeps,
  { userId, name, ttlMs, key, scopes }: NewToken,
): Promise<{ row: AccessToken; token: string }> {
  const token = newPersonalToken();
  const now = deps.clock.now();
  const row: AccessToken = {
    id: key === null ? deps.ids.next("tok") : await takeTokenId(deps, userId, key, now),
    userId,
    name,
    hash: sha256(token),
    createdAt: now,
    expiresAt: ttlMs === null ? null : now + ttlMs,
    lastUsedAt: null,
    scopes: scopes ?? ALL_SCOPES,
  };
  await deps.accounts.createToken(row);
  return { row, token };
}

/** Its answer was lost with the process when the same key comes again. */
async function takeTokenId({ accounts, ids }: PersonalTokenDeps, userId: string, key: string, now: number) {
  const id = `tok_${shortDigest(`${userId} ${key}`)}`;
  const made = (await accounts.tokens(userId)).find((token) => token.id === id);
  if (made === undefined) return id;
  if (made.lastUsedAt !== null || now - made.createdAt >= DAY) return ids.next("tok");
  await accounts.deleteToken(userId, id);
  return id;
}
