/** Tasks in groups by whose move it is. */
import { useState } from "react";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { getGroup, type Group } from "../../lib/tasks/task-view.ts";
import { Icon } from "../icon.tsx";
import { QuickAnswer } from "./quick-answer.tsx";
import { TaskRow } from "./task-row.tsx";

const GROUPS: readonly (readonly [Group, string])[] = [
  ["needs", "Needs you"],
  ["running", "Running"],
  ["waiting", "Waiting"],
  ["today", "Done today"],
  ["earlier", "Earlier"],
];
const EARLIER_SHOWN = 20;

interface TaskGroupsProps {
  readonly tasks: readonly WireTask[];
  readonly now: number;
}

export function TaskGroups({ tasks, now }: TaskGroupsProps) {
  return GROUPS.map(([group, title]) => (
    <InboxGroup
      key={group}
      group={group}
      title={title}
      tasks={tasks.filter((task) => getGroup(task, now) === group)}
      now={now}
    />
  ));
}

function InboxGroup({
  group,
  title,
  tasks,
  now,
}: {
  group: Group;
  title: string;
  tasks: readonly WireTask[];
  now: number;
}) {
  const [limit, setLimit] = useState(EARLIER_SHOWN);
  if (tasks.length === 0) return null;
  return (
    <section className="group" aria-labelledby={`group-${group}`}>
      <h2 id={`group-${group}`}>
        {title} <span className="n">{tasks.length}</span>
      </h2>
      <ul className="rows">
        {tasks.slice(0, limit).map((task) => (
          <TaskRow key={task.id} task={task} now={now}>
            {group === "needs" && <QuickAnswer task={task} />}
          </TaskRow>
        ))}
      </ul>
      {tasks.length > limit && (
        <button className="more-row" type="button" onClick={() => setLimit(limit + 100)}>
          {tasks.length - limit} more
          <Icon name="chev-d" small />
        </button>
      )}
    </section>
  );
}
