/** The other tasks of the thread: what led here, and what came of it. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "../../../navigation/link.tsx";
import { taskAddress } from "../../../navigation/addresses.ts";
import { useMemo } from "react";
import type { WireTask } from "../../../../../src/core/protocol/rest.ts";
import { Icon } from "../../../components/icon.tsx";
import { TaskRow } from "../../../components/tasks/task-row.tsx";
import { client } from "../../../lib/client.ts";
import { pluralize } from "../../../lib/format.ts";
import { putTask, useTaskList } from "../../../lib/tasks/task-list.ts";
import { useTaskView } from "../task-screen.tsx";

const FRESH_MS = 30_000;

/** It continues a task of another thread. */
const isFork = (task: WireTask): task is WireTask & { parentId: string } =>
  task.parentId !== null && task.threadId === task.id.replace("task_", "thread_");

function ForkedFrom({ taskId }: { taskId: string }) {
  return (
    <p className="note">
      <Link className="link" to={taskAddress(taskId)}>
        Forked from another task
      </Link>
    </p>
  );
}

export function ThreadFold() {
  const { task, now } = useTaskView();
  const { tasks } = useTaskList();
  // Older ones are not in the list; those that are found are put there.
  const { isLoading } = useQuery({
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
  if (others.length === 0 && !isLoading) return isFork(task) ? <ForkedFrom taskId={task.parentId} /> : null;
  const earlier = others.filter(({ id }) => id < task.id).length;
  const parts = [
    earlier > 0 ? `${earlier} before` : "",
    others.length > earlier ? `${others.length - earlier} after` : "",
  ];
  return (
    <details className="fold">
      <summary>
        <Icon name="chev-r" small className="turn" />
        <b>{others.length === 0 ? "Thread" : `Thread of ${pluralize(others.length + 1, "task")}`}</b>
        <span>{parts.filter((part) => part !== "").join(", ")}</span>
      </summary>
      <ul className="rows">
        {others.map((other) => (
          <TaskRow key={other.id} task={other} now={now} />
        ))}
      </ul>
      <p className="talk">
        <Link className="btn line wide" to={taskAddress(task.id, "thread")}>
          What was said in all of them
        </Link>
      </p>
    </details>
  );
}
