/** What was said in the tasks of a thread. */
import type { Connection, Statement } from "../driver.ts";
import type { TaskEvent } from "../../../core/event.ts";
import { PageBuilder, type Page } from "../../../core/lib/pagination.ts";
import type { ConversationQuery, Direction } from "../../../core/ports/store.ts";
import { NOT_DELETED } from "../deletions.ts";
import * as rows from "./rows.ts";

/** SQLite uses a partial index only if the query repeats its condition literally. */
const SAID = `(type IN ('task.submitted', 'task.state', 'message', 'message.status', 'question', 'answer', 'verify', 'push', 'pull_request')
  OR (type = 'notice' AND instr(data, '"code":"branch_') > 0))`;

export function threadReads(db: Connection) {
  const tasks = db.prepare<[string], { id: string; user_id: string }>(
    `SELECT id, user_id FROM tasks AS t INDEXED BY tasks_thread WHERE thread_id = ? AND ${NOT_DELETED} ORDER BY id`,
  );
  const select = `SELECT * FROM task_events INDEXED BY task_events_said WHERE task_id = ? AND ${SAID}`;
  const said: Record<Direction, Statement<[string, number, number], rows.EventRecord>> = {
    up: db.prepare(`${select} AND seq > ? ORDER BY seq LIMIT ?`),
    down: db.prepare(`${select} AND seq < ? ORDER BY seq DESC LIMIT ?`),
  };
  return {
    conversation({ userId, threadId, from, direction, limit }: ConversationQuery): Page<TaskEvent> {
      const own = tasks.all(threadId).filter((task) => userId === null || task.user_id === userId);
      const ids = own.map(({ id }) => id);
      const page = new PageBuilder(limit, ({ data }: rows.EventRecord) => data.length, rows.toReadableEvent);
      for (const id of direction === "up" ? ids : ids.toReversed()) {
        const isBehind = from !== undefined && (direction === "up" ? id < from.taskId : id > from.taskId);
        if (isBehind) continue;
        const start = direction === "up" ? 0 : Number.MAX_SAFE_INTEGER;
        page.take(said[direction].iterate(id, id === from?.taskId ? from.seq : start, limit + 1));
        if (page.isFull) break;
      }
      return page.finish();
    },
  };
}
