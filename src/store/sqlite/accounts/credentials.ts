/** Git credentials in SQL. */
import type { Connection } from "../driver.ts";
import type { Accounts, Credential } from "../../../core/ports/accounts.ts";
import type { CredentialCheck, CredentialUse } from "../../../core/protocol/repositories.ts";
import type { GroupCommit } from "../writer/group-commit.ts";
import type { AccountWrites } from "../writer/messages.ts";
import { mapRow } from "./people.ts";

interface CredentialRow {
  id: string;
  user_id: string;
  host: string;
  username: string | null;
  sealed: string;
  created_at: number;
  checked: string | null;
  last_used_at: number | null;
  last_use: string | null;
}

const toCredential = (row: CredentialRow): Credential => ({
  id: row.id,
  userId: row.user_id,
  host: row.host,
  username: row.username,
  sealed: row.sealed,
  createdAt: row.created_at,
  // Both are written by this program only.
  check: row.checked === null ? null : (JSON.parse(row.checked) as CredentialCheck),
  lastUsedAt: row.last_used_at,
  lastUse: row.last_use === null ? null : (JSON.parse(row.last_use) as CredentialUse),
});

type CredentialWrites = Pick<AccountWrites, "putCredential" | "touchCredential" | "deleteCredential">;

export function credentialWrites(db: Connection): CredentialWrites {
  const put = db.prepare(
    `INSERT INTO credentials (id, user_id, host, username, sealed, created_at, checked, last_used_at, last_use)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (user_id, host) DO UPDATE
     SET id = excluded.id, username = excluded.username, sealed = excluded.sealed, created_at = excluded.created_at,
         checked = excluded.checked, last_used_at = excluded.last_used_at, last_use = excluded.last_use`,
  );
  const touch = db.prepare(
    `UPDATE credentials SET last_used_at = @at, last_use = @use
     WHERE user_id = @userId AND id = @id AND coalesce(last_used_at, 0) <= @at`,
  );
  const drop = db.prepare("DELETE FROM credentials WHERE user_id = ? AND id = ?");
  const toJson = (value: object | null): string | null => (value === null ? null : JSON.stringify(value));
  return {
    putCredential: (row: Credential): void =>
      void put.run(
        row.id,
        row.userId,
        row.host,
        row.username,
        row.sealed,
        row.createdAt,
        toJson(row.check),
        row.lastUsedAt,
        toJson(row.lastUse),
      ),
    touchCredential: (userId: string, id: string, at: number, use: CredentialUse): void =>
      void touch.run({ userId, id, at, use: JSON.stringify(use) }),
    deleteCredential: (userId: string, id: string): boolean => drop.run(userId, id).changes === 1,
  };
}

type CredentialReads = Pick<Accounts, keyof CredentialWrites | "credentials" | "credentialFor">;

export function credentialReads(db: Connection): (run: GroupCommit["run"]) => CredentialReads {
  const ofUser = db.prepare<[string], CredentialRow>("SELECT * FROM credentials WHERE user_id = ? ORDER BY host");
  const ofHost = db.prepare<[string, string], CredentialRow>(
    "SELECT * FROM credentials WHERE user_id = ? AND host = ?",
  );
  return (run) => ({
    putCredential: (credential) => run("putCredential", credential),
    credentials: async (userId) => ofUser.all(userId).map(toCredential),
    credentialFor: async (userId, host) => mapRow(ofHost.get(userId, host), toCredential),
    touchCredential: (userId, id, at, use) => run("touchCredential", userId, id, at, use),
    deleteCredential: (userId, id) => run("deleteCredential", userId, id),
  });
}
