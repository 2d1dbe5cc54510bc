/** On a wide screen a task stands beside the bar and the list; elsewhere it is alone. */
import { useEffect, useState, type ReactNode } from "react";
import { onRowKeys } from "../../lib/keys.ts";
import { useNow } from "../../lib/server-time.ts";
import { useTaskList } from "../../lib/tasks/task-list.ts";
import { Bar } from "../bar.tsx";
import { TaskGroups } from "./task-groups.tsx";

const WIDE = "(min-width: 72rem)";

function useWide(): boolean {
  const [isWide, setWide] = useState(() => matchMedia(WIDE).matches);
  useEffect(() => {
    const query = matchMedia(WIDE);
    const read = (): void => setWide(query.matches);
    query.addEventListener("change", read);
    return () => query.removeEventListener("change", read);
  }, []);
  return isWide;
}

export function WithList({ children }: { children: ReactNode }) {
  if (!useWide()) return children;
  return (
    <div className="app has-side has-list">
      <Bar />
      <ListPane />
      {children}
    </div>
  );
}

function ListPane() {
  const { tasks } = useTaskList();
  const now = useNow(tasks.length > 0);
  useEffect(() => onRowKeys(".list-pane .row-link"), []);
  return (
    <aside className="list-pane" aria-label="Tasks">
      <TaskGroups tasks={tasks} now={now} />
    </aside>
  );
}
