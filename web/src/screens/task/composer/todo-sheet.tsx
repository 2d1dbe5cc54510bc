/** What the agent set out to do, and what the task cost so far. */
import { useQuery } from "@tanstack/react-query";
import type { WireTask } from "../../../../../src/core/protocol/rest.ts";
import { Icon } from "../../../components/icon.tsx";
import { client, configQuery } from "../../../lib/client.ts";
import { formatCount, formatUsd } from "../../../lib/format.ts";
import type { Todo } from "../../../lib/log/outline.ts";
import { useTaskView } from "../task-screen.tsx";
import { ThreadCost } from "../thread/thread-cost.tsx";

export function TodoSheet({ todo }: { todo: readonly Todo[] }) {
  const { task } = useTaskView();
  const { usage, budget } = task;
  const context = useNewestRequest(task);
  const { data: config } = useQuery(configQuery);
  const window = config?.windows?.[context?.model ?? ""];
  const read = usage.inputTokens + usage.cacheReadTokens + usage.cacheWriteTokens;
  const ofCache = read === 0 ? "" : ` (${Math.round((100 * usage.cacheReadTokens) / read)} % from the cache)`;
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
          {formatCount(read)} in{ofCache}, {formatCount(usage.outputTokens)} out
        </dd>
        {context !== null && (
          <>
            <dt>Context</dt>
            <dd>
              {formatCount(context.tokens)} tokens in the newest request
              {window === undefined
                ? ""
                : `, ${Math.round((100 * context.tokens) / window)} % of the model’s ${formatCount(window)}`}
            </dd>
          </>
        )}
        <dt>Turns</dt>
        <dd>
          {formatCount(usage.turns)}
          {budget?.turns === undefined ? "" : ` of ${formatCount(budget.turns)}`}
        </dd>
      </dl>
    </>
  );
}

/** More events than there are between two requests to a model. */
const NEWEST = 200;

interface NewestRequest {
  readonly tokens: number;
  /** Null = it is not known which model had them. */
  readonly model: string | null;
}

/** What the agent's newest request to its model had in all; null = none is known. */
function useNewestRequest({ id, model, usage }: WireTask): NewestRequest | null {
  const { data } = useQuery({
    queryKey: ["newest-request", id, usage.turns],
    queryFn: async ({ signal }) => {
      // Newest first.
      const { items } = await client.events(id, { before: "latest", limit: NEWEST }, { signal });
      for (const event of items) {
        if (event.type !== "usage") continue;
        const { data } = event;
        // A review has a conversation of its own.
        if (data.model !== undefined && model !== null && data.model !== model) continue;
        const tokens = data.inputTokens + data.cacheReadTokens + data.cacheWriteTokens;
        return { tokens, model: data.model ?? model };
      }
      return null;
    },
    enabled: usage.turns > 0,
    placeholderData: (previous) => previous,
  });
  return data ?? null;
}
