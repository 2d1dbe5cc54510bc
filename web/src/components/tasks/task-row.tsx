/** A task in a list. */
import { ChangeCount } from "./change-count.tsx";
import { Link } from "../../navigation/link.tsx";
import { taskAddress } from "../../navigation/addresses.ts";
import { memo, type ReactNode } from "react";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { formatAge, formatElapsed, formatRepo } from "../../lib/format.ts";
import { usePerson } from "../../lib/session.ts";
import { isOwn, isUnread } from "../../lib/tasks/ownership.ts";
import {
  describeCost,
  describeStep,
  describeThreadBudget,
  getAppearance,
  isSettled,
  isThreadBudgetNear,
} from "../../lib/tasks/task-view.ts";
import { Icon } from "../icon.tsx";
import { Mini } from "../lifecycle/mini.tsx";

interface RowProps {
  readonly task: WireTask;
  readonly now: number;
  /** Of a waiting task: when it usually starts. */
  readonly forecast?: string;
  readonly children?: ReactNode;
}

export function getAge(task: WireTask, now: number): string {
  if (isSettled(task)) return formatAge(Date.parse(task.settledAt ?? task.updatedAt), now);
  const appearance = getAppearance(task);
  if (appearance === "running" || appearance === "provisioning" || appearance === "pushing")
    return formatElapsed(now - Date.parse(task.startedAt ?? task.createdAt));
  return formatAge(Date.parse(task.question?.askedAt ?? task.createdAt), now);
}

export const TaskRow = memo(function TaskRow({ task, now, forecast = "", children }: RowProps) {
  const person = usePerson();
  const appearance = getAppearance(task);
  const { word, rest: step } = describeStep(task);
  const rest = [step, forecast].filter(Boolean).join(", ");
  const cost = describeCost(task);
  // A row that this device kept from an earlier version has neither.
  const todo = (task.todo?.total ?? 0) > 0 ? task.todo : null;
  const changes = (task.changes?.files ?? 0) > 0 ? task.changes : null;
  const isAsking = appearance === "awaiting" || appearance === "parked";
  const isNew = isUnread(task, person);
  const isWrapped = isAsking || appearance === "queued" || appearance === "failed";
  return (
    <li className={`row st-${appearance}${isNew ? " unread" : ""}`}>
      <Link className="row-link" to={taskAddress(task.id)} data-id={task.id}>
        <Icon name={`st-${appearance}`} className="state-ic" />
        <span className="row-title">
          {task.title}
          {isNew && <span className="sr"> (unread)</span>}
        </span>
        <span className="row-age">{getAge(task, now)}</span>
        <span className={isWrapped ? "row-step wrap" : "row-step"}>
          <span className="txt">
            <b>{word}</b>
            {rest === "" ? "" : ` · ${rest}`}
          </span>
          {!isSettled(task) && !isAsking && <Mini appearance={appearance} />}
        </span>
        <span className="row-meta">
          {!isOwn(task, person) && <span>{task.owner.email}</span>}
          <span className="repo">{formatRepo(task.repo)}</span>
          {todo !== null && <span title={todo.current ?? undefined}>{`${todo.done} of ${todo.total}`}</span>}
          {cost !== "" && <span>{cost}</span>}
          {isThreadBudgetNear(task) && <span>thread {describeThreadBudget(task)}</span>}
          {changes !== null && <ChangeCount {...changes} />}
        </span>
      </Link>
      {children}
    </li>
  );
});
