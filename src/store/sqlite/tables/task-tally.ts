/** How many tasks there are: of one person or of all, also of one repository only. */
import type { Connection } from "../driver.ts";
import type { Tally, TallyQuery } from "../../../core/ports/store.ts";
import { TASK_STATES, type TaskState } from "../../../core/task.ts";
import { ASKING, addressesOf } from "./task-search.ts";

interface Count {
  readonly state: TaskState;
  readonly tasks: number;
}

export function taskTally(db: Connection): (query: TallyQuery) => Tally {
  const all = db.prepare<[], Count>("SELECT state, tasks FROM tallies");
  const ofUser = db.prepare<[string], Count>(
    "SELECT state, count(*) AS tasks FROM tasks INDEXED BY tasks_user_state WHERE user_id = ? GROUP BY state",
  );
  const asking = db
    .prepare<[], number>(`SELECT count(*) FROM tasks AS t INDEXED BY tasks_state WHERE ${ASKING}`)
    .pluck();
  const askingOfUser = db
    .prepare<[string], number>(
      `SELECT count(*) FROM tasks AS t INDEXED BY tasks_user_state WHERE t.user_id = ? AND ${ASKING}`,
    )
    .pluck();
  const ofRepository = db.prepare<[string, string, string | null], { state: TaskState; asking: 0 | 1; tasks: number }>(
    `SELECT t.state, ${ASKING} AS asking, count(*) AS tasks
     FROM task_specs AS s INDEXED BY task_specs_repo CROSS JOIN tasks AS t ON t.id = s.task_id
     WHERE s.repo IN (?, ?) AND t.user_id = coalesce(?, t.user_id) GROUP BY 1, 2`,
  );

  function toStates(counts: readonly Count[]): Record<TaskState, number> {
    const sum = (state: TaskState): number =>
      counts.reduce((total, count) => total + (count.state === state ? count.tasks : 0), 0);
    return Object.fromEntries(TASK_STATES.map((state) => [state, sum(state)])) as Record<TaskState, number>;
  }

  return ({ userId, repo }) => {
    if (repo !== undefined) {
      const found = ofRepository.all(...addressesOf(repo), userId);
      return { byState: toStates(found), asking: found.reduce((sum, row) => sum + row.asking * row.tasks, 0) };
    }
    return userId === null
      ? { byState: toStates(all.all()), asking: asking.get() ?? 0 }
      : { byState: toStates(ofUser.all(userId)), asking: askingOfUser.get(userId) ?? 0 };
  };
}
