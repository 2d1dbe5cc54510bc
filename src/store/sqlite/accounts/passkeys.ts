/** Passkeys in SQL. */
import type { Connection } from "../driver.ts";
import type { Accounts, Passkey } from "../../../core/ports/accounts.ts";
import type { GroupCommit } from "../writer/group-commit.ts";
import type { AccountWrites } from "../writer/messages.ts";
import { mapRow, orConflict } from "./people.ts";

interface PasskeyRow {
  id: string;
  user_id: string;
  credential_id: string;
  public_key: string;
  counter: number;
  transports: string;
  rp_id: string;
  name: string;
  created_at: number;
  last_used_at: number | null;
}

const toPasskey = (row: PasskeyRow): Passkey => ({
  id: row.id,
  userId: row.user_id,
  credentialId: row.credential_id,
  publicKey: row.public_key,
  counter: row.counter,
  transports: row.transports.split(",").filter(Boolean),
  rpId: row.rp_id,
  name: row.name,
  createdAt: row.created_at,
  lastUsedAt: row.last_used_at,
});

type PasskeyWrites = Pick<AccountWrites, "createPasskey" | "usePasskey" | "changePasskey" | "deletePasskey">;

export function passkeyWrites(db: Connection): PasskeyWrites {
  const insert = db.prepare(
    `INSERT INTO passkeys
       (id, user_id, credential_id, public_key, counter, transports, rp_id, name, created_at, last_used_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const use = db.prepare(
    `UPDATE passkeys SET counter = @counter, last_used_at = max(coalesce(last_used_at, 0), @at)
     WHERE id = @id AND (counter < @counter OR (counter = 0 AND @counter = 0))`,
  );
  const rename = db.prepare("UPDATE passkeys SET name = ? WHERE user_id = ? AND id = ?");
  const drop = db.prepare("DELETE FROM passkeys WHERE user_id = ? AND id = ?");
  return {
    createPasskey: (row: Passkey): void =>
      void insert.run(
        row.id,
        row.userId,
        row.credentialId,
        row.publicKey,
        row.counter,
        row.transports.join(","),
        row.rpId,
        row.name,
        row.createdAt,
        row.lastUsedAt,
      ),
    usePasskey: (id: string, counter: number, at: number): boolean => use.run({ id, counter, at }).changes === 1,
    changePasskey: (userId: string, id: string, { name }: Pick<Passkey, "name">): boolean =>
      rename.run(name, userId, id).changes === 1,
    deletePasskey: (userId: string, id: string): boolean => drop.run(userId, id).changes === 1,
  };
}

type PasskeyReads = Pick<Accounts, keyof PasskeyWrites | "passkeys" | "passkeyFor">;

export function passkeyReads(db: Connection): (run: GroupCommit["run"]) => PasskeyReads {
  const ofUser = db.prepare<[string], PasskeyRow>("SELECT * FROM passkeys WHERE user_id = ? ORDER BY created_at, id");
  const byCredential = db.prepare<[string], PasskeyRow>("SELECT * FROM passkeys WHERE credential_id = ?");
  return (run) => ({
    createPasskey: (row) => orConflict("This passkey", run("createPasskey", row)),
    passkeys: async (userId) => ofUser.all(userId).map(toPasskey),
    passkeyFor: async (credentialId) => mapRow(byCredential.get(credentialId), toPasskey),
    usePasskey: (id, counter, at) => run("usePasskey", id, counter, at),
    changePasskey: (userId, id, change) => run("changePasskey", userId, id, change),
    deletePasskey: (userId, id) => run("deletePasskey", userId, id),
  });
}
