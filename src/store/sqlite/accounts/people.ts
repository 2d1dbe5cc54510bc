/** Identities at providers and one-time links in SQL. */
import type { Connection } from "../driver.ts";
import type { Accounts, Link, ProviderIdentity, Role } from "../../../core/ports/accounts.ts";
import { SlipwayError } from "../../../core/error.ts";
import { WriteError, type GroupCommit } from "../writer/group-commit.ts";
import type { AccountWrites } from "../writer/messages.ts";

interface IdentityRow {
  id: string;
  user_id: string;
  issuer: string;
  subject: string;
  name: string;
  created_at: number;
  last_used_at: number | null;
}

interface LinkRow {
  id: string;
  hash: string;
  kind: Link["kind"];
  user_id: string | null;
  email: string | null;
  role: Role | null;
  made_by: string;
  created_at: number;
  expires_at: number;
  used_at: number | null;
}

const toIdentity = (row: IdentityRow): ProviderIdentity => ({
  id: row.id,
  userId: row.user_id,
  issuer: row.issuer,
  subject: row.subject,
  name: row.name,
  createdAt: row.created_at,
  lastUsedAt: row.last_used_at,
});

const toLink = (row: LinkRow): Link => ({
  id: row.id,
  hash: row.hash,
  kind: row.kind,
  userId: row.user_id,
  email: row.email,
  role: row.role,
  madeBy: row.made_by,
  createdAt: row.created_at,
  expiresAt: row.expires_at,
  usedAt: row.used_at,
});

/** Maps a row, or returns null when there is none. */
export const mapRow = <R, T>(row: R | undefined, map: (row: R) => T): T | null => (row === undefined ? null : map(row));

/** Converts a violated unique constraint into `conflict`. */
export async function orConflict<T>(what: string, write: Promise<T>): Promise<T> {
  try {
    return await write;
  } catch (error) {
    const taken = error instanceof WriteError && /^SQLITE_CONSTRAINT_(UNIQUE|PRIMARYKEY)$/.test(error.code ?? "");
    throw taken ? new SlipwayError("conflict", `${what} already exists.`, { cause: error }) : error;
  }
}

export function insertIdentity(db: Connection): (identity: ProviderIdentity) => void {
  const insert = db.prepare(
    "INSERT INTO identities (id, user_id, issuer, subject, name, created_at, last_used_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
  );
  return ({ id, userId, issuer, subject, name, createdAt, lastUsedAt }) =>
    void insert.run(id, userId, issuer, subject, name, createdAt, lastUsedAt);
}

type PeopleWrites = Pick<
  AccountWrites,
  "createIdentity" | "touchIdentity" | "deleteIdentity" | "createLink" | "deleteLink"
>;

export function peopleWrites(db: Connection): PeopleWrites {
  const touch = db.prepare("UPDATE identities SET last_used_at = max(coalesce(last_used_at, 0), ?) WHERE id = ?");
  const dropIdentity = db.prepare("DELETE FROM identities WHERE user_id = ? AND id = ?");
  const insertLink = db.prepare(
    `INSERT INTO links (id, hash, kind, user_id, email, role, made_by, created_at, expires_at, used_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const dropLink = db.prepare("DELETE FROM links WHERE id = ? AND used_at IS NULL");
  return {
    createIdentity: insertIdentity(db),
    touchIdentity: (id: string, at: number): void => void touch.run(at, id),
    deleteIdentity: (userId: string, id: string): boolean => dropIdentity.run(userId, id).changes === 1,
    createLink: (row: Link): void =>
      void insertLink.run(
        row.id,
        row.hash,
        row.kind,
        row.userId,
        row.email,
        row.role,
        row.madeBy,
        row.createdAt,
        row.expiresAt,
        row.usedAt,
      ),
    deleteLink: (id: string): boolean => dropLink.run(id).changes === 1,
  };
}

type PeopleReads = Pick<Accounts, keyof PeopleWrites | "identity" | "identities" | "linkByHash" | "openLinks">;

export function peopleReads(db: Connection): (run: GroupCommit["run"]) => PeopleReads {
  const identity = db.prepare<[string, string], IdentityRow>(
    "SELECT * FROM identities WHERE issuer = ? AND subject = ?",
  );
  const identities = db.prepare<[string], IdentityRow>(
    "SELECT * FROM identities WHERE user_id = ? ORDER BY created_at, id",
  );
  const linkByHash = db.prepare<[string], LinkRow>("SELECT * FROM links WHERE hash = ?");
  const openLinks = db.prepare<[], LinkRow>("SELECT * FROM links WHERE used_at IS NULL ORDER BY created_at DESC, id");
  return (run) => ({
    createIdentity: (row) => orConflict("This identity", run("createIdentity", row)),
    identity: async (issuer, subject) => mapRow(identity.get(issuer, subject), toIdentity),
    identities: async (userId) => identities.all(userId).map(toIdentity),
    touchIdentity: (id, at) => run("touchIdentity", id, at),
    deleteIdentity: (userId, id) => run("deleteIdentity", userId, id),
    createLink: (link) => orConflict("The link", run("createLink", link)),
    linkByHash: async (hash) => mapRow(linkByHash.get(hash), toLink),
    openLinks: async () => openLinks.all().map(toLink),
    deleteLink: (id) => run("deleteLink", id),
  });
}
