/** Users, sessions, tokens and credentials in SQL. Writes share the group commit of tasks. */
import type { Connection } from "../driver.ts";
import type {
  AccessToken,
  Accounts,
  PasswordHash,
  ProviderIdentity,
  Role,
  Scope,
  Session,
  User,
  UserChange,
} from "../../../core/ports/accounts.ts";
import type { GroupCommit } from "../writer/group-commit.ts";
import { credentialReads, credentialWrites } from "./credentials.ts";
import { insertIdentity, mapRow, orConflict, peopleReads, peopleWrites } from "./people.ts";
import { passkeyReads, passkeyWrites } from "./passkeys.ts";
import { variableReads, variableWrites } from "./variables.ts";
import type { AccountWrites } from "../writer/messages.ts";

interface UserRow {
  id: string;
  email: string;
  role: Role;
  password_hash: string;
  created_at: number;
  disabled_at: number | null;
}

interface SessionRow {
  id: string;
  user_id: string;
  token_hash: string;
  previous_hash: string | null;
  confirmed_at: number | null;
  rotated_at: number;
  expires_at: number;
  revoked_at: number | null;
  created_at: number;
  device: string;
  address: string;
}

interface TokenRow {
  id: string;
  user_id: string;
  name: string;
  hash: string;
  created_at: number;
  expires_at: number | null;
  last_used_at: number | null;
  scopes: string | null;
}

const toUser = (row: UserRow): User => ({
  id: row.id,
  email: row.email,
  role: row.role,
  createdAt: row.created_at,
  disabledAt: row.disabled_at,
});

const toSession = (row: SessionRow): Session => ({
  id: row.id,
  userId: row.user_id,
  tokenHash: row.token_hash,
  previousHash: row.previous_hash,
  rotatedAt: row.rotated_at,
  confirmedAt: row.confirmed_at,
  createdAt: row.created_at,
  expiresAt: row.expires_at,
  revokedAt: row.revoked_at,
  device: row.device,
  address: row.address,
});

const toToken = (row: TokenRow): AccessToken => ({
  id: row.id,
  userId: row.user_id,
  name: row.name,
  hash: row.hash,
  createdAt: row.created_at,
  expiresAt: row.expires_at,
  lastUsedAt: row.last_used_at,
  // Written by this program only.
  scopes: row.scopes === null ? null : (row.scopes.split(",").filter(Boolean) as Scope[]),
});

type UserWrites = Pick<AccountWrites, "createUser" | "changeUser" | "acceptInvitation" | "acceptPassword">;

function userWrites(db: Connection): UserWrites {
  const insert = db.prepare(
    "INSERT INTO users (id, email, role, password_hash, created_at, disabled_at) VALUES (?, ?, ?, ?, ?, ?)",
  );
  const set = {
    role: db.prepare("UPDATE users SET role = ? WHERE id = ?"),
    passwordHash: db.prepare("UPDATE users SET password_hash = ? WHERE id = ?"),
    disabledAt: db.prepare("UPDATE users SET disabled_at = ? WHERE id = ?"),
  };
  const exists = db.prepare("SELECT 1 FROM users WHERE id = ?");
  const dropPasskeys = db.prepare("DELETE FROM passkeys WHERE user_id = ?");
  const addIdentity = insertIdentity(db);
  const useLink = db.prepare<[number, string, string], { user_id: string | null }>(
    "UPDATE links SET used_at = ? WHERE id = ? AND kind = ? AND used_at IS NULL RETURNING user_id",
  );
  const revokeAll = db.prepare("UPDATE sessions SET revoked_at = ? WHERE user_id = ? AND revoked_at IS NULL");
  const create = ({ id, email, role, passwordHash, createdAt, disabledAt }: User & PasswordHash): void =>
    void insert.run(id, email.toLowerCase(), role, passwordHash ?? "", createdAt, disabledAt);
  return {
    createUser: (user: User & PasswordHash, identity?: ProviderIdentity): void => {
      create(user);
      if (identity !== undefined) addIdentity(identity);
    },
    changeUser: (id: string, change: UserChange): boolean => {
      for (const name of ["role", "passwordHash", "disabledAt"] as const)
        if (change[name] !== undefined) set[name].run(change[name], id);
      if (typeof change.disabledAt === "number") dropPasskeys.run(id);
      return exists.get(id) !== undefined;
    },
    acceptInvitation: (id: string, at: number, user: User & PasswordHash): boolean => {
      if (useLink.get(at, id, "invitation") === undefined) return false;
      create(user);
      return true;
    },
    acceptPassword: (id: string, at: number, passwordHash: string): boolean => {
      const userId = useLink.get(at, id, "password")?.user_id;
      if (userId === undefined || userId === null) return false;
      set.passwordHash.run(passwordHash, userId);
      revokeAll.run(at, userId);
      return true;
    },
  };
}

type SessionWrites = Pick<
  AccountWrites,
  "createSession" | "rotateSession" | "confirmSession" | "revokeSession" | "revokeSessions"
>;

function sessionWrites(db: Connection): SessionWrites {
  const createSession = db.prepare(
    `INSERT INTO sessions
       (id, user_id, token_hash, previous_hash, rotated_at, created_at, expires_at, revoked_at, device, address,
        confirmed_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const rotate = db.prepare(
    `UPDATE sessions
     SET token_hash = ?, previous_hash = token_hash, rotated_at = ?, confirmed_at = NULL, address = coalesce(?, address)
     WHERE id = ? AND token_hash = ? AND revoked_at IS NULL`,
  );
  const confirm = db.prepare(
    "UPDATE sessions SET confirmed_at = ? WHERE id = ? AND token_hash = ? AND confirmed_at IS NULL",
  );
  const revoke = db.prepare("UPDATE sessions SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?");
  const revokeOthers = db.prepare(
    "UPDATE sessions SET revoked_at = ? WHERE user_id = ? AND id IS NOT ? AND revoked_at IS NULL",
  );
  return {
    createSession: (row: Session): void =>
      void createSession.run(
        row.id,
        row.userId,
        row.tokenHash,
        row.previousHash,
        row.rotatedAt,
        row.createdAt,
        row.expiresAt,
        row.revokedAt,
        row.device,
        row.address,
        row.confirmedAt,
      ),
    rotateSession: (id: string, fromHash: string, toHash: string, at: number, address?: string): boolean =>
      rotate.run(toHash, at, address ?? null, id, fromHash).changes === 1,
    confirmSession: (id: string, tokenHash: string, at: number): void => void confirm.run(at, id, tokenHash),
    revokeSession: (id: string, at: number): void => void revoke.run(at, id),
    revokeSessions: (userId: string, at: number, except: string | null): number =>
      revokeOthers.run(at, userId, except).changes,
  };
}

export function accountWrites(db: Connection): AccountWrites {
  const createToken = db.prepare(
    "INSERT INTO tokens (id, user_id, name, hash, created_at, expires_at, last_used_at, scopes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
  );
  const touch = db.prepare("UPDATE tokens SET last_used_at = max(coalesce(last_used_at, 0), ?) WHERE id = ?");
  const dropToken = db.prepare("DELETE FROM tokens WHERE user_id = ? AND id = ?");
  return {
    ...userWrites(db),
    ...sessionWrites(db),
    ...peopleWrites(db),
    ...passkeyWrites(db),
    ...credentialWrites(db),
    ...variableWrites(db),
    createToken: ({ id, userId, name, hash, createdAt, expiresAt, lastUsedAt, scopes }: AccessToken): void =>
      void createToken.run(id, userId, name, hash, createdAt, expiresAt, lastUsedAt, scopes?.join(",") ?? null),
    touchToken: (id: string, at: number): void => void touch.run(at, id),
    deleteToken: (userId: string, id: string): boolean => dropToken.run(userId, id).changes === 1,
  };
}

type Run = GroupCommit["run"];

/** @returns the accounts, by the way in which their writes run. */
export function sqliteAccounts(db: Connection): (run: Run) => Omit<Accounts, "reply" | "putReply" | "with"> {
  const people = peopleReads(db);
  const passkeys = passkeyReads(db);
  const credentials = credentialReads(db);
  const variables = variableReads(db);
  const userById = db.prepare<[string], UserRow>("SELECT * FROM users WHERE id = ?");
  const userByEmail = db.prepare<[string], UserRow>("SELECT * FROM users WHERE email = ?");
  const users = db.prepare<[], UserRow>("SELECT * FROM users ORDER BY created_at, id");
  const openSessions = db.prepare<[string], SessionRow>(
    "SELECT * FROM sessions WHERE user_id = ? AND revoked_at IS NULL ORDER BY rotated_at DESC, id",
  );
  const sessionById = db.prepare<[string], SessionRow>("SELECT * FROM sessions WHERE id = ?");
  const sessionByHash = db.prepare<[string], SessionRow>("SELECT * FROM sessions WHERE token_hash = ?");
  const byPrevious = db.prepare<[string], SessionRow>(
    "SELECT * FROM sessions WHERE previous_hash = ? ORDER BY rotated_at DESC LIMIT 1",
  );
  const tokenByHash = db.prepare<[string], TokenRow>("SELECT * FROM tokens WHERE hash = ?");
  const tokens = db.prepare<[string], TokenRow>("SELECT * FROM tokens WHERE user_id = ? ORDER BY created_at, id");
  return (run) => ({
    ...people(run),
    ...passkeys(run),
    ...credentials(run),
    ...variables(run),
    createUser: (user, identity) => orConflict("A user with this e-mail", run("createUser", user, identity)),
    changeUser: (id, change) => run("changeUser", id, change),
    acceptInvitation: (id, at, user) => orConflict("A user with this e-mail", run("acceptInvitation", id, at, user)),
    acceptPassword: (id, at, passwordHash) => run("acceptPassword", id, at, passwordHash),
    user: async (id) => mapRow(userById.get(id), toUser),
    login: async (email) =>
      mapRow(userByEmail.get(email.toLowerCase()), (row) => ({
        ...toUser(row),
        passwordHash: row.password_hash === "" ? null : row.password_hash,
      })),
    users: async () => users.all().map(toUser),
    deletePerson: (deletion) => run("deletePerson", deletion),
    createSession: (session) => orConflict("The session", run("createSession", session)),
    session: async (id) => mapRow(sessionById.get(id), toSession),
    openSessions: async (userId) => openSessions.all(userId).map(toSession),
    sessionByHash: async (hash) => mapRow(sessionByHash.get(hash) ?? byPrevious.get(hash), toSession),
    rotateSession: (id, fromHash, toHash, at, address) => run("rotateSession", id, fromHash, toHash, at, address),
    confirmSession: (id, tokenHash, at) => run("confirmSession", id, tokenHash, at),
    revokeSession: (id, at) => run("revokeSession", id, at),
    revokeSessions: (userId, at, except) => run("revokeSessions", userId, at, except),
    createToken: (token) => orConflict("The token", run("createToken", token)),
    tokenByHash: async (hash) => mapRow(tokenByHash.get(hash), toToken),
    tokens: async (userId) => tokens.all(userId).map(toToken),
    touchToken: (id, at) => run("touchToken", id, at),
    deleteToken: (userId, id) => run("deleteToken", userId, id),
  });
}
