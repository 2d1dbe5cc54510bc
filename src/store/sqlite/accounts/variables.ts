/** Variables of repositories in SQL. */
import type { Connection } from "../driver.ts";
import type { Accounts, StoredVariable } from "../../../core/ports/accounts.ts";
import type { VariablePhase } from "../../../core/protocol/repositories.ts";
import type { GroupCommit } from "../writer/group-commit.ts";
import type { AccountWrites } from "../writer/messages.ts";

interface VariableRow {
  user_id: string;
  repo: string;
  name: string;
  sealed: string;
  secret: number;
  phase: VariablePhase;
  updated_at: number;
}

const toVariable = (row: VariableRow): StoredVariable => ({
  userId: row.user_id,
  repo: row.repo,
  name: row.name,
  sealed: row.sealed,
  secret: row.secret === 1,
  phase: row.phase,
  updatedAt: row.updated_at,
});

export function variableWrites(db: Connection): Pick<AccountWrites, "putVariable" | "deleteVariable"> {
  const put = db.prepare(
    `INSERT INTO repository_variables (user_id, repo, name, sealed, secret, phase, updated_at)
     VALUES (?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (user_id, repo, name) DO UPDATE
     SET sealed = excluded.sealed, secret = excluded.secret, phase = excluded.phase, updated_at = excluded.updated_at`,
  );
  const drop = db.prepare("DELETE FROM repository_variables WHERE user_id = ? AND repo = ? AND name = ?");
  return {
    putVariable: ({ userId, repo, name, sealed, secret, phase, updatedAt }) =>
      void put.run(userId, repo, name, sealed, secret ? 1 : 0, phase, updatedAt),
    deleteVariable: (userId, repo, name) => drop.run(userId, repo, name).changes === 1,
  };
}

type VariableReads = Pick<Accounts, "putVariable" | "variables" | "deleteVariable">;

export function variableReads(db: Connection): (run: GroupCommit["run"]) => VariableReads {
  const read = db.prepare<[string, string | null, string | null], VariableRow>(
    "SELECT * FROM repository_variables WHERE user_id = ? AND (? IS NULL OR repo = ?) ORDER BY repo, name",
  );
  return (run) => ({
    putVariable: (variable) => run("putVariable", variable),
    variables: async (userId, repo) => read.all(userId, repo, repo).map(toVariable),
    deleteVariable: (userId, repo, name) => run("deleteVariable", userId, repo, name),
  });
}
