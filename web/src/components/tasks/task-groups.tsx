/** Tasks in groups by whose move it is. */
import { useMemo } from "react";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { serverNow } from "../../lib/server-time.ts";
import { usePerson } from "../../lib/session.ts";
import { collectWaits, forecastStart } from "../../lib/tasks/forecast.ts";
import { getGroup, type Group } from "../../lib/tasks/task-view.ts";
import { useEntryState } from "../../navigation/places.ts";
import { Icon } from "../icon.tsx";
import { QuickAnswer } from "./quick-answer.tsx";
import { RowFocus } from "./row-focus.tsx";
import { TaskRow } from "./task-row.tsx";

export const GROUPS: readonly (readonly [Group, string])[] = [
  ["needs", "Needs you"],
  ["running", "Running"],
  ["waiting", "Waiting"],
  ["today", "Done today"],
  ["earlier", "Earlier"],
];
export const EARLIER_SHOWN = 20;

interface TaskGroupsProps {
  readonly tasks: readonly WireTask[];
  readonly now: number;
}

export function TaskGroups({ tasks, now }: TaskGroupsProps) {
  const person = usePerson();
  const waits = useMemo(() => collectWaits(tasks, serverNow()), [tasks]);
  return (
    <RowFocus>
      {GROUPS.map(([group, title]) => (
        <InboxGroup
          key={group}
          group={group}
          title={title}
          tasks={tasks.filter((task) => getGroup(task, now, person) === group)}
          now={now}
          waits={waits}
        />
      ))}
    </RowFocus>
  );
}

function InboxGroup({
  group,
  title,
  tasks,
  now,
  waits,
}: {
  group: Group;
  title: string;
  tasks: readonly WireTask[];
  now: number;
  waits: readonly number[];
}) {
  const [limit, setLimit] = useEntryState(`limit ${group}`, EARLIER_SHOWN);
  if (tasks.length === 0) return null;
  return (
    <section className="group" aria-labelledby={`group-${group}`}>
      <h2 id={`group-${group}`}>
        {title} <span className="n">{tasks.length}</span>
      </h2>
      <ul className="rows">
        {tasks.slice(0, limit).map((task) => (
          <TaskRow key={task.id} task={task} now={now} forecast={forecastStart(task, waits, now)}>
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
