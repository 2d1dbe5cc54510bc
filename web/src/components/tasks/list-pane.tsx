/** The list beside a task. */
import { useEffect } from "react";
import { onRowKeys } from "../../lib/keys.ts";
import { useNow } from "../../lib/server-time.ts";
import { useTaskList } from "../../lib/tasks/task-list.ts";
import { TaskGroups } from "./task-groups.tsx";

export function ListPane() {
  const { tasks } = useTaskList();
  const now = useNow(tasks.length > 0);
  useEffect(() => onRowKeys(".list-pane .row-link"), []);
  return (
    <aside className="pane list list-pane" aria-label="Tasks">
      <TaskGroups tasks={tasks} now={now} />
    </aside>
  );
}
