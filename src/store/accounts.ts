/** People in SQL. Writes go through the same batches as tasks, and are as durable. */
import Database, { type Database as Connection } from "better-sqlite3";
import type { AccessToken, Accounts, Credential, Role, Session, User } from "../accounts.ts";
import { SlipwayError } from "../error.ts";
import type { Batch } from "./batch.ts";

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

const userOf = (row: UserRow): User => ({ id: row.id, email: row.email, role: row.role, createdAt: row.created_at });

const sessionOf = (row: SessionRow): Session => ({
  id: row.id,
  userId: row.user_id,
  tokenHash: row.token_hash,
  previousHash: row.previous_hash,
  rotatedAt: row.rotated_at,
  expiresAt: row.expires_at,
  revokedAt: row.revoked_at,
});

const tokenOf = (row: TokenRow): AccessToken => ({
  id: row.id,
  userId: row.user_id,
  name: row.name,
  hash: row.hash,
  createdAt: row.created_at,
  expiresAt: row.expires_at,
  lastUsedAt: row.last_used_at,
});

const credentialOf = (row: CredentialRow): Credential => ({
  id: row.id,
  userId: row.user_id,
  host: row.host,
  username: row.username,
  sealed: row.sealed,
  createdAt: row.created_at,
});

/** A row or null, by way of `map`. */
const maybe = <R, T>(row: R | undefined, map: (row: R) => T): T | null => (row === undefined ? null : map(row));

export function sqliteAccounts(db: Connection, batch: Batch): Accounts {
  return { ...people(db, batch), ...sessions(db, batch), ...tokens(db, batch), ...credentials(db, batch) };
}

/** Runs an insert; what is taken shows as `conflict`. */
async function insert(batch: Batch, what: string, work: () => unknown): Promise<void> {
  try {
    await batch.run(work);
  } catch (error) {
    const taken = error instanceof Database.SqliteError && /^SQLITE_CONSTRAINT_(UNIQUE|PRIMARYKEY)$/.test(error.code);
    throw taken ? new SlipwayError("conflict", `${what} exists already.`, { cause: error }) : error;
  }
}

function people(db: Connection, batch: Batch): Pick<Accounts, "createUser" | "user" | "login" | "users"> {
  const create = db.prepare("INSERT INTO users (id, email, role, password_hash, created_at) VALUES (?, ?, ?, ?, ?)");
  const byId = db.prepare<[string], UserRow>("SELECT * FROM users WHERE id = ?");
  const byEmail = db.prepare<[string], UserRow>("SELECT * FROM users WHERE email = ?");
  const all = db.prepare<[], UserRow>("SELECT * FROM users ORDER BY created_at, id");
  return {
    createUser: ({ id, email, role, passwordHash, createdAt }) =>
      insert(batch, "A user with this e-mail", () => create.run(id, email.toLowerCase(), role, passwordHash, createdAt)),
    user: async (id) => maybe(byId.get(id), userOf),
    login: async (email) => maybe(byEmail.get(email.toLowerCase()), (row) => ({ ...userOf(row), passwordHash: row.password_hash })),
    users: async () => all.all().map(userOf),
  };
}

function sessions(
  db: Connection,
  batch: Batch,
): Pick<Accounts, "createSession" | "session" | "sessionByHash" | "rotateSession" | "revokeSession"> {
  const create = db.prepare(
    "INSERT INTO sessions (id, user_id, token_hash, previous_hash, rotated_at, expires_at, revoked_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
  );
  const byId = db.prepare<[string], SessionRow>("SELECT * FROM sessions WHERE id = ?");
  const byHash = db.prepare<[string], SessionRow>("SELECT * FROM sessions WHERE token_hash = ?");
  const byPrevious = db.prepare<[string], SessionRow>("SELECT * FROM sessions WHERE previous_hash = ? ORDER BY rotated_at DESC LIMIT 1");
  const rotate = db.prepare(
    "UPDATE sessions SET token_hash = ?, previous_hash = token_hash, rotated_at = ? WHERE id = ? AND token_hash = ? AND revoked_at IS NULL",
  );
  const revoke = db.prepare("UPDATE sessions SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?");
  return {
    createSession: ({ id, userId, tokenHash, previousHash, rotatedAt, expiresAt, revokedAt }) =>
      insert(batch, "The session", () => create.run(id, userId, tokenHash, previousHash, rotatedAt, expiresAt, revokedAt)),
    session: async (id) => maybe(byId.get(id), sessionOf),
    sessionByHash: async (hash) => maybe(byHash.get(hash) ?? byPrevious.get(hash), sessionOf),
    rotateSession: (id, fromHash, toHash, at) => batch.run(() => rotate.run(toHash, at, id, fromHash).changes === 1),
    revokeSession: (id, at) => batch.run(() => void revoke.run(at, id)),
  };
}

function tokens(db: Connection, batch: Batch): Pick<Accounts, "createToken" | "tokenByHash" | "tokens" | "touchToken" | "deleteToken"> {
  const create = db.prepare(
    "INSERT INTO tokens (id, user_id, name, hash, created_at, expires_at, last_used_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
  );
  const byHash = db.prepare<[string], TokenRow>("SELECT * FROM tokens WHERE hash = ?");
  const ofUser = db.prepare<[string], TokenRow>("SELECT * FROM tokens WHERE user_id = ? ORDER BY created_at, id");
  const touch = db.prepare("UPDATE tokens SET last_used_at = max(coalesce(last_used_at, 0), ?) WHERE id = ?");
  const remove = db.prepare("DELETE FROM tokens WHERE user_id = ? AND id = ?");
  return {
    createToken: ({ id, userId, name, hash, createdAt, expiresAt, lastUsedAt }) =>
      insert(batch, "The token", () => create.run(id, userId, name, hash, createdAt, expiresAt, lastUsedAt)),
    tokenByHash: async (hash) => maybe(byHash.get(hash), tokenOf),
    tokens: async (userId) => ofUser.all(userId).map(tokenOf),
    touchToken: (id, at) => batch.run(() => void touch.run(at, id)),
    deleteToken: (userId, id) => batch.run(() => remove.run(userId, id).changes === 1),
  };
}

function credentials(db: Connection, batch: Batch): Pick<Accounts, "putCredential" | "credentials" | "credentialFor" | "deleteCredential"> {
  const put = db.prepare(
    `INSERT INTO credentials (id, user_id, host, username, sealed, created_at) VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (user_id, host) DO UPDATE
     SET id = excluded.id, username = excluded.username, sealed = excluded.sealed, created_at = excluded.created_at`,
  );
  const ofUser = db.prepare<[string], CredentialRow>("SELECT * FROM credentials WHERE user_id = ? ORDER BY host");
  const forHost = db.prepare<[string, string], CredentialRow>("SELECT * FROM credentials WHERE user_id = ? AND host = ?");
  const remove = db.prepare("DELETE FROM credentials WHERE user_id = ? AND id = ?");
  return {
    putCredential: ({ id, userId, host, username, sealed, createdAt }) =>
      insert(batch, "The credential", () => put.run(id, userId, host, username, sealed, createdAt)),
    credentials: async (userId) => ofUser.all(userId).map(credentialOf),
    credentialFor: async (userId, host) => maybe(forHost.get(userId, host), credentialOf),
    deleteCredential: (userId, id) => batch.run(() => remove.run(userId, id).changes === 1),
  };
}
