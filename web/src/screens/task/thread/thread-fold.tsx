/** The other tasks of the thread: what led here, and what came of it. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import { Icon } from "../../../components/icon.tsx";
import { TaskRow } from "../../../components/tasks/task-row.tsx";
import { client } from "../../../lib/client.ts";
import { pluralize } from "../../../lib/format.ts";
import { putTask, useTaskList } from "../../../lib/tasks/task-list.ts";
import { useTaskView } from "../task-screen.tsx";

const FRESH_MS = 30_000;

export function ThreadFold() {
  const { task, now } = useTaskView();
  const { tasks } = useTaskList();
  // Older ones are not in the list; those that are found are put there.
  useQuery({
    queryKey: ["thread", task.threadId],
    queryFn: async ({ signal }) => {
      const { items } = await client.tasks({ thread: task.threadId, limit: 50 }, { signal });
      for (const item of items) putTask(item);
      return items.length;
    },
    enabled: task.parentId !== null,
    staleTime: FRESH_MS,
  });
  const others = useMemo(
    () =>
      tasks
        .filter(({ id, threadId }) => threadId === task.threadId && id !== task.id)
        .toSorted((a, b) => (a.id < b.id ? -1 : 1)),
    [tasks, task.threadId, task.id],
  );
  if (others.length === 0) return null;
  const earlier = others.filter(({ id }) => id < task.id).length;
  const parts = [
    earlier > 0 ? `${earlier} before` : "",
    others.length > earlier ? `${others.length - earlier} after` : "",
  ];
  return (
    <details className="fold">
      <summary>
        <Icon name="chev-r" small className="turn" />
        <b>Thread of {pluralize(others.length + 1, "task")}</b>
        <span>{parts.filter((part) => part !== "").join(", ")}</span>
      </summary>
      <ul className="rows">
        {others.map((other) => (
          <TaskRow key={other.id} task={other} now={now} />
        ))}
      </ul>
      <p className="talk">
        <Link className="btn line wide" to="/tasks/$id/thread" params={{ id: task.id }}>
          What was said in all of them
        </Link>
      </p>
    </details>
  );
}
