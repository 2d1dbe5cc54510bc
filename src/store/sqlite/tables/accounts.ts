/** Users, sessions, tokens and credentials in SQL. Writes share the group commit of tasks. */
import type { Connection } from "../driver.ts";
import type { AccessToken, Accounts, Credential, Role, Session, User } from "../../../core/ports/accounts.ts";
import { SlipwayError } from "../../../core/error.ts";
import { WriteError, type GroupCommit } from "../writer/group-commit.ts";
import type { AccountWrites } from "../writer/messages.ts";

interface UserRow {
  id: string;
  email: string;
  role: Role;
  password_hash: string;
  created_at: number;
}

interface SessionRow {
  id: string;
  user_id: string;
  token_hash: string;
  previous_hash: string | null;
  rotated_at: number;
  expires_at: number;
  revoked_at: number | null;
}

interface TokenRow {
  id: string;
  user_id: string;
  name: string;
  hash: string;
  created_at: number;
  expires_at: number | null;
  last_used_at: number | null;
}

interface CredentialRow {
  id: string;
  user_id: string;
  host: string;
  username: string | null;
  sealed: string;
  created_at: number;
}

const toUser = (row: UserRow): User => ({ id: row.id, email: row.email, role: row.role, createdAt: row.created_at });

const toSession = (row: SessionRow): Session => ({
  id: row.id,
  userId: row.user_id,
  tokenHash: row.token_hash,
  previousHash: row.previous_hash,
  rotatedAt: row.rotated_at,
  expiresAt: row.expires_at,
  revokedAt: row.revoked_at,
});

const toToken = (row: TokenRow): AccessToken => ({
  id: row.id,
  userId: row.user_id,
  name: row.name,
  hash: row.hash,
  createdAt: row.created_at,
  expiresAt: row.expires_at,
  lastUsedAt: row.last_used_at,
});

const toCredential = (row: CredentialRow): Credential => ({
  id: row.id,
  userId: row.user_id,
  host: row.host,
  username: row.username,
  sealed: row.sealed,
  createdAt: row.created_at,
});

/** Maps a row, or returns null when there is none. */
const mapRow = <R, T>(row: R | undefined, map: (row: R) => T): T | null => (row === undefined ? null : map(row));

export function accountWrites(db: Connection): AccountWrites {
  const createUser = db.prepare(
    "INSERT INTO users (id, email, role, password_hash, created_at) VALUES (?, ?, ?, ?, ?)",
  );
  const createSession = db.prepare(
    "INSERT INTO sessions (id, user_id, token_hash, previous_hash, rotated_at, expires_at, revoked_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
  );
  const rotate = db.prepare(
    "UPDATE sessions SET token_hash = ?, previous_hash = token_hash, rotated_at = ? WHERE id = ? AND token_hash = ? AND revoked_at IS NULL",
  );
  const revoke = db.prepare("UPDATE sessions SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?");
  const createToken = db.prepare(
    "INSERT INTO tokens (id, user_id, name, hash, created_at, expires_at, last_used_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
  );
  const touch = db.prepare("UPDATE tokens SET last_used_at = max(coalesce(last_used_at, 0), ?) WHERE id = ?");
  const dropToken = db.prepare("DELETE FROM tokens WHERE user_id = ? AND id = ?");
  const putCredential = db.prepare(
    `INSERT INTO credentials (id, user_id, host, username, sealed, created_at) VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (user_id, host) DO UPDATE
     SET id = excluded.id, username = excluded.username, sealed = excluded.sealed, created_at = excluded.created_at`,
  );
  const dropCredential = db.prepare("DELETE FROM credentials WHERE user_id = ? AND id = ?");
  return {
    createUser: ({ id, email, role, passwordHash, createdAt }: User & { readonly passwordHash: string }): void =>
      void createUser.run(id, email.toLowerCase(), role, passwordHash, createdAt),
    createSession: ({ id, userId, tokenHash, previousHash, rotatedAt, expiresAt, revokedAt }: Session): void =>
      void createSession.run(id, userId, tokenHash, previousHash, rotatedAt, expiresAt, revokedAt),
    rotateSession: (id: string, fromHash: string, toHash: string, at: number): boolean =>
      rotate.run(toHash, at, id, fromHash).changes === 1,
    revokeSession: (id: string, at: number): void => void revoke.run(at, id),
    createToken: ({ id, userId, name, hash, createdAt, expiresAt, lastUsedAt }: AccessToken): void =>
      void createToken.run(id, userId, name, hash, createdAt, expiresAt, lastUsedAt),
    touchToken: (id: string, at: number): void => void touch.run(at, id),
    deleteToken: (userId: string, id: string): boolean => dropToken.run(userId, id).changes === 1,
    putCredential: ({ id, userId, host, username, sealed, createdAt }: Credential): void =>
      void putCredential.run(id, userId, host, username, sealed, createdAt),
    deleteCredential: (userId: string, id: string): boolean => dropCredential.run(userId, id).changes === 1,
  };
}

/** Converts a violated unique constraint into `conflict`. */
async function orConflict(what: string, insert: Promise<void>): Promise<void> {
  try {
    await insert;
  } catch (error) {
    const taken = error instanceof WriteError && /^SQLITE_CONSTRAINT_(UNIQUE|PRIMARYKEY)$/.test(error.code ?? "");
    throw taken ? new SlipwayError("conflict", `${what} already exists.`, { cause: error }) : error;
  }
}

export function sqliteAccounts(db: Connection, groupCommit: GroupCommit): Omit<Accounts, "reply" | "putReply"> {
  const userById = db.prepare<[string], UserRow>("SELECT * FROM users WHERE id = ?");
  const userByEmail = db.prepare<[string], UserRow>("SELECT * FROM users WHERE email = ?");
  const users = db.prepare<[], UserRow>("SELECT * FROM users ORDER BY created_at, id");
  const sessionById = db.prepare<[string], SessionRow>("SELECT * FROM sessions WHERE id = ?");
  const sessionByHash = db.prepare<[string], SessionRow>("SELECT * FROM sessions WHERE token_hash = ?");
  const byPrevious = db.prepare<[string], SessionRow>(
    "SELECT * FROM sessions WHERE previous_hash = ? ORDER BY rotated_at DESC LIMIT 1",
  );
  const tokenByHash = db.prepare<[string], TokenRow>("SELECT * FROM tokens WHERE hash = ?");
  const tokens = db.prepare<[string], TokenRow>("SELECT * FROM tokens WHERE user_id = ? ORDER BY created_at, id");
  const credentials = db.prepare<[string], CredentialRow>("SELECT * FROM credentials WHERE user_id = ? ORDER BY host");
  const credentialFor = db.prepare<[string, string], CredentialRow>(
    "SELECT * FROM credentials WHERE user_id = ? AND host = ?",
  );
  return {
    createUser: (user) => orConflict("A user with this e-mail", groupCommit.run("createUser", user)),
    user: async (id) => mapRow(userById.get(id), toUser),
    login: async (email) =>
      mapRow(userByEmail.get(email.toLowerCase()), (row) => ({ ...toUser(row), passwordHash: row.password_hash })),
    users: async () => users.all().map(toUser),
    createSession: (session) => orConflict("The session", groupCommit.run("createSession", session)),
    session: async (id) => mapRow(sessionById.get(id), toSession),
    sessionByHash: async (hash) => mapRow(sessionByHash.get(hash) ?? byPrevious.get(hash), toSession),
    rotateSession: (id, fromHash, toHash, at) => groupCommit.run("rotateSession", id, fromHash, toHash, at),
    revokeSession: (id, at) => groupCommit.run("revokeSession", id, at),
    createToken: (token) => orConflict("The token", groupCommit.run("createToken", token)),
    tokenByHash: async (hash) => mapRow(tokenByHash.get(hash), toToken),
    tokens: async (userId) => tokens.all(userId).map(toToken),
    touchToken: (id, at) => groupCommit.run("touchToken", id, at),
    deleteToken: (userId, id) => groupCommit.run("deleteToken", userId, id),
    putCredential: (credential) => orConflict("The credential", groupCommit.run("putCredential", credential)),
    credentials: async (userId) => credentials.all(userId).map(toCredential),
    credentialFor: async (userId, host) => mapRow(credentialFor.get(userId, host), toCredential),
    deleteCredential: (userId, id) => groupCommit.run("deleteCredential", userId, id),
  };
}
