/** Data keys and the rows that they seal, in SQL. */
import type { Connection } from "../driver.ts";
import type { Act } from "../../../core/ports/audit.ts";
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

/** A row of either table; the columns of the other one are null. */
interface SealedRecord {
  place: number;
  user_id: string;
  host: string | null;
  repo: string | null;
  name: string | null;
  sealed: string;
}

/** The tables with sealed rows that a rotation seals again; kept answers end within a day. */
const TABLES = {
  credential: { from: "credentials", columns: "host, NULL AS repo, NULL AS name" },
  variable: { from: "repository_variables", columns: "NULL AS host, repo, name" },
} as const satisfies Record<SealedRow["kind"], { from: string; columns: string }>;

const toKey = (row: KeyRecord): StoredKey => ({
  id: row.id,
  use: row.use,
  rotation: row.rotation,
  createdAt: row.created_at,
  retiredAt: row.retired_at,
  wrapped: row.wrapped,
});

function toSealedRow({ user_id: userId, host, repo, name, sealed }: SealedRecord): SealedRow {
  if (host !== null) return { kind: "credential", userId, host, sealed };
  return { kind: "variable", userId, repo: repo ?? "", name: name ?? "", sealed };
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
    reseal: (changes) =>
      changes
        .map(({ row, sealed }) =>
          row.kind === "credential"
            ? sealCredential.run(sealed, row.userId, row.host, row.sealed).changes
            : sealVariable.run(sealed, row.userId, row.repo, row.name, row.sealed).changes,
        )
        .reduce((sum, count) => sum + count, 0),
    forgetKeys() {
      for (const table of ["data_keys", "credentials", "repository_variables", "replies"])
        db.exec(`DELETE FROM ${table}`);
    },
  };
}

/** What is read of the keys, also by the checker, which has no writer. */
export function keyReads(db: Connection): Pick<KeyStore, "keys" | "sealedCounts"> {
  const all = db.prepare<[], KeyRecord>("SELECT * FROM data_keys ORDER BY created_at DESC");
  // The id follows the version: `v1.<id>.<text>`.
  const counts = db.prepare<[], { id: string; rows: number }>(
    `SELECT substr(sealed, 4, 8) AS id, count(*) AS "rows"
     FROM (SELECT sealed FROM credentials UNION ALL SELECT sealed FROM repository_variables) GROUP BY 1`,
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
  const pages = { credential: page("credential"), variable: page("variable") };
  const run = (act: Act | undefined): GroupCommit["run"] =>
    act === undefined ? (...call) => groupCommit.run(...call) : createAuditedRun(groupCommit, act);
  return {
    ...keyReads(db),
    addKeys: (keys, act) => run(act)("addKeys", keys),
    rewrapKeys: (keys, act) => run(act)("rewrapKeys", keys),
    async sealedRows(kind, keyId, after, limit) {
      const found = pages[kind].all(after, keyId, limit);
      const last = found.at(-1);
      return { rows: found.map(toSealedRow), next: found.length < limit || last === undefined ? null : last.place };
    },
    reseal: (changes) => groupCommit.run("reseal", changes),
    forgetKeys: (act) => run(act)("forgetKeys"),
  };
}
