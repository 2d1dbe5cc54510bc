/** Tasks in groups by whose move it is, a dense row each. */
import { ChangeCount } from "../../components/tasks/change-count.tsx";
import { Link } from "../../navigation/link.tsx";
import { taskAddress } from "../../navigation/addresses.ts";
import { useEntryState } from "../../navigation/places.ts";
import { memo, useMemo } from "react";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { Icon } from "../../components/icon.tsx";
import { Mini } from "../../components/lifecycle/mini.tsx";
import { RowFocus } from "../../components/tasks/row-focus.tsx";
import { EARLIER_SHOWN, GROUPS } from "../../components/tasks/task-groups.tsx";
import { getAge } from "../../components/tasks/task-row.tsx";
import { formatRepo } from "../../lib/format.ts";
import { serverNow } from "../../lib/server-time.ts";
import { usePerson } from "../../lib/session.ts";
import { collectWaits, forecastStart } from "../../lib/tasks/forecast.ts";
import { isOwn, isUnread } from "../../lib/tasks/ownership.ts";
import {
  describeCost,
  describeStep,
  describeThreadBudget,
  getAppearance,
  getGroup,
  isThreadBudgetNear,
} from "../../lib/tasks/task-view.ts";

interface WideGroupsProps {
  readonly tasks: readonly WireTask[];
  readonly now: number;
  readonly selected: string | null;
  readonly onSelect: (id: string) => void;
}

export function WideGroups({ tasks, now, selected, onSelect }: WideGroupsProps) {
  const person = usePerson();
  const waits = useMemo(() => collectWaits(tasks, serverNow()), [tasks]);
  const [limit, setLimit] = useEntryState("limit", EARLIER_SHOWN);
  if (tasks.length === 0) return null;
  return (
    <RowFocus>
      <div className="dhead" aria-hidden="true">
        <span>Task</span>
        <span>Repository</span>
        <span>Way</span>
        <span>To do</span>
        <span className="end">Cost</span>
        <span className="end">Changes</span>
        <span className="end">Age</span>
      </div>
      {GROUPS.map(([group, title]) => {
        const members = tasks.filter((task) => getGroup(task, now, person) === group);
        if (members.length === 0) return null;
        return (
          <section key={group} aria-labelledby={`group-${group}`}>
            <h2 id={`group-${group}`}>
              {title} <span className="n">{members.length}</span>
            </h2>
            <ul>
              {members.slice(0, limit).map((task) => (
                <WideRow
                  key={task.id}
                  task={task}
                  age={getAge(task, now)}
                  forecast={forecastStart(task, waits, now)}
                  isSelected={task.id === selected}
                  onSelect={onSelect}
                />
              ))}
            </ul>
            {members.length > limit && (
              <button className="more-row" type="button" onClick={() => setLimit(limit + 100)}>
                {members.length - limit} more
                <Icon name="chev-d" small />
              </button>
            )}
          </section>
        );
      })}
    </RowFocus>
  );
}

interface WideRowProps {
  readonly task: WireTask;
  readonly age: string;
  readonly forecast: string;
  readonly isSelected: boolean;
  readonly onSelect: (id: string) => void;
}

/** A counter of one row draws this row alone. */
const WideRow = memo(function WideRow({ task, age, forecast, isSelected, onSelect }: WideRowProps) {
  const person = usePerson();
  const appearance = getAppearance(task);
  const { word, rest } = describeStep(task);
  const thread = isThreadBudgetNear(task) ? `thread ${describeThreadBudget(task)}` : "";
  const step = [isOwn(task, person) ? "" : task.owner.email, rest, forecast, thread].filter(Boolean).join(", ");
  const repo = formatRepo(task.repo);
  // A row that this device kept from an earlier version has neither.
  const todo = (task.todo?.total ?? 0) > 0 ? task.todo : null;
  const changes = (task.changes?.files ?? 0) > 0 ? task.changes : null;
  const isNew = isUnread(task, person);
  return (
    <li>
      <Link
        className={`drow st-${appearance}${isNew ? " unread" : ""}`}
        to={taskAddress(task.id)}
        data-id={task.id}
        aria-current={isSelected ? "true" : undefined}
        onFocus={() => onSelect(task.id)}
      >
        <Icon name={`st-${appearance}`} className="state-ic" />
        <span>
          <span className="t">
            {task.title}
            {isNew && <span className="sr"> (unread)</span>}
          </span>
          <span className="step">
            <b>{word}</b>
            {step === "" ? "" : ` · ${step}`}
          </span>
        </span>
        <span className="cell" title={repo}>
          {repo.slice(repo.lastIndexOf("/") + 1)}
        </span>
        <Mini appearance={appearance} />
        <span className="cell" title={todo?.current ?? undefined}>
          {todo === null ? "" : `${todo.done}/${todo.total}`}
        </span>
        <span className="cell end">{describeCost(task)}</span>
        <span className="end">{changes !== null && <ChangeCount {...changes} />}</span>
        <span className="end">{age}</span>
      </Link>
    </li>
  );
});
