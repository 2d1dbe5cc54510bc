/** Data keys and the rows that they seal, in SQL. */
import type { Connection } from "../driver.ts";
import type { Act } from "../../../core/ports/records/audit.ts";
import { KEY_USES, type KeyStore, type KeyUse, type SealedRow, type StoredKey } from "../../../core/ports/accounts.ts";
import type { GroupCommit } from "../writer/group-commit.ts";
import type { KeyWrites } from "../writer/messages.ts";
import { createAuditedRun } from "./audit.ts";

interface KeyRecord {
  id: string;
  use: KeyUse;
  rotation: string;
  created_at: number;
  retired_at: number | null;
  wrapped: string;
}

/** A row of one of the tables; `a` and `b` are what its context is made of besides the person. */
interface SealedRecord {
  place: number;
  user_id: string;
  a: string;
  b: string;
  sealed: string;
}

/** The tables with sealed rows that a rotation seals again; kept answers end within a day. */
const TABLES = {
  credential: { from: "credentials", columns: "host AS a, '' AS b" },
  variable: { from: "repository_variables", columns: "repo AS a, name AS b" },
  device: { from: "push_devices", columns: "id AS a, '' AS b" },
} as const satisfies Record<SealedRow["kind"], { from: string; columns: string }>;

const toKey = (row: KeyRecord): StoredKey => ({
  id: row.id,
  use: row.use,
  rotation: row.rotation,
  createdAt: row.created_at,
  retiredAt: row.retired_at,
  wrapped: row.wrapped,
});

function toSealedRow(kind: SealedRow["kind"], { user_id: userId, a, b, sealed }: SealedRecord): SealedRow {
  if (kind === "credential") return { kind, userId, host: a, sealed };
  if (kind === "device") return { kind, userId, id: a, sealed };
  return { kind, userId, repo: a, name: b, sealed };
}

const byUse = (a: StoredKey, b: StoredKey): number => KEY_USES.indexOf(a.use) - KEY_USES.indexOf(b.use);

export function keyWrites(db: Connection): KeyWrites {
  const made = db.prepare("SELECT 1 FROM data_keys WHERE rotation = ? AND use = ?");
  const retire = db.prepare("UPDATE data_keys SET retired_at = ? WHERE use = ? AND retired_at IS NULL");
  const insert = db.prepare(
    "INSERT INTO data_keys (id, use, rotation, created_at, retired_at, wrapped) VALUES (?, ?, ?, ?, ?, ?)",
  );
  const rewrap = db.prepare("UPDATE data_keys SET wrapped = ? WHERE id = ?");
  const known = db.prepare("SELECT 1 FROM data_keys WHERE id = ?");
  const sealCredential = db.prepare("UPDATE credentials SET sealed = ? WHERE user_id = ? AND host = ? AND sealed = ?");
  const sealVariable = db.prepare(
    "UPDATE repository_variables SET sealed = ? WHERE user_id = ? AND repo = ? AND name = ? AND sealed = ?",
  );
  const sealDevice = db.prepare("UPDATE push_devices SET sealed = ? WHERE user_id = ? AND id = ? AND sealed = ?");
  const replace = (row: SealedRow, sealed: string): number => {
    if (row.kind === "credential") return sealCredential.run(sealed, row.userId, row.host, row.sealed).changes;
    if (row.kind === "device") return sealDevice.run(sealed, row.userId, row.id, row.sealed).changes;
    return sealVariable.run(sealed, row.userId, row.repo, row.name, row.sealed).changes;
  };
  return {
    addKeys(keys) {
      if (keys.some(({ rotation, use }) => made.get(rotation, use) !== undefined)) return false;
      for (const { id, use, rotation, createdAt, wrapped } of keys) {
        retire.run(createdAt, use);
        insert.run(id, use, rotation, createdAt, null, wrapped);
      }
      return true;
    },
    rewrapKeys(keys) {
      if (keys.some(({ id }) => known.get(id) === undefined)) return false;
      for (const { id, wrapped } of keys) rewrap.run(wrapped, id);
      return true;
    },
    reseal: (changes) => changes.reduce((sum, { row, sealed }) => sum + replace(row, sealed), 0),
    forgetKeys() {
      for (const table of ["data_keys", "credentials", "repository_variables", "replies"])
        db.exec(`DELETE FROM ${table}`);
      db.exec("DELETE FROM push_devices WHERE sealed IS NOT NULL");
    },
  };
}

/** What is read of the keys, also by the checker, which has no writer. */
export function keyReads(db: Connection): Pick<KeyStore, "keys" | "sealedCounts"> {
  const all = db.prepare<[], KeyRecord>("SELECT * FROM data_keys ORDER BY created_at DESC");
  // The id follows the version: `v1.<id>.<text>`.
  const counts = db.prepare<[], { id: string; rows: number }>(
    `SELECT substr(sealed, 4, 8) AS id, count(*) AS "rows"
     FROM (SELECT sealed FROM credentials UNION ALL SELECT sealed FROM repository_variables
       UNION ALL SELECT sealed FROM push_devices WHERE sealed IS NOT NULL) GROUP BY 1`,
  );
  return {
    keys: async () =>
      all
        .all()
        .map(toKey)
        .toSorted((a, b) => b.createdAt - a.createdAt || byUse(a, b)),
    sealedCounts: async () => Object.fromEntries(counts.all().map(({ id, rows }) => [id, rows])),
  };
}

export function sqliteKeys(db: Connection, groupCommit: GroupCommit): KeyStore {
  const page = (kind: SealedRow["kind"]) =>
    db.prepare<[number, string, number], SealedRecord>(
      `SELECT rowid AS place, user_id, ${TABLES[kind].columns}, sealed FROM ${TABLES[kind].from}
       WHERE rowid > ? AND substr(sealed, 4, 8) <> ? ORDER BY rowid LIMIT ?`,
    );
  const pages = { credential: page("credential"), variable: page("variable"), device: page("device") };
  const run = (act: Act | undefined): GroupCommit["run"] =>
    act === undefined ? (...call) => groupCommit.run(...call) : createAuditedRun(groupCommit, act);
  return {
    ...keyReads(db),
    addKeys: (keys, act) => run(act)("addKeys", keys),
    rewrapKeys: (keys, act) => run(act)("rewrapKeys", keys),
    async sealedRows(kind, keyId, after, limit) {
      const found = pages[kind].all(after, keyId, limit);
      const last = found.at(-1);
      return {
        rows: found.map((row) => toSealedRow(kind, row)),
        next: found.length < limit || last === undefined ? null : last.place,
      };
    },
    reseal: (changes) => groupCommit.run("reseal", changes),
    forgetKeys: (act) => run(act)("forgetKeys"),
  };
}
