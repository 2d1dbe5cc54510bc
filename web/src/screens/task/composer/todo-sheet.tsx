/** What the agent set out to do, and what the task cost so far. */
import { Icon } from "../../../components/icon.tsx";
import { formatCount, formatUsd } from "../../../lib/format.ts";
import type { Todo } from "../../../lib/log/conversation.ts";
import { useTaskView } from "../task-screen.tsx";
import { ThreadCost } from "../thread/thread-cost.tsx";

export function TodoSheet({ todo }: { todo: readonly Todo[] }) {
  const { task } = useTaskView();
  const { usage, budget } = task;
  return (
    <>
      <ul className="checks">
        {todo.map((item, i) => {
          const appearance =
            item.status === "completed" ? "done" : item.status === "in_progress" ? "running" : "queued";
          return (
            <li key={`${i} ${item.text}`} className={`st-${appearance}`}>
              <Icon name={`st-${appearance}`} />
              <span>{item.text}</span>
            </li>
          );
        })}
      </ul>
      <dl className="facts">
        <dt>Cost</dt>
        <dd>
          {formatUsd(usage.usd)}
          {budget?.usd === undefined ? "" : ` of ${formatUsd(budget.usd)}`}
        </dd>
        <ThreadCost task={task} />
        <dt>Tokens</dt>
        <dd>
          {formatCount(usage.inputTokens + usage.cacheReadTokens + usage.cacheWriteTokens)} in,{" "}
          {formatCount(usage.outputTokens)} out
        </dd>
        <dt>Turns</dt>
        <dd>{formatCount(usage.turns)}</dd>
      </dl>
    </>
  );
}
