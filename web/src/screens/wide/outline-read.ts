/** What the outline of a log adds to a row: the time in each state, and what was done lately. */
import type { WireEvent } from "../../../../src/core/protocol/events.ts";
import { client } from "../../lib/client.ts";
import type { StateSpan } from "../../lib/log/outline.ts";

const PAGE = 1_000;
const LATELY = 3;

/** An item of the agent's list, and since when it is done. */
export interface Lately {
  readonly text: string;
  /** Null = it is worked on. */
  readonly at: number | null;
}

export interface OutlineRead {
  readonly spans: readonly StateSpan[];
  readonly lately: readonly Lately[];
}

export async function readOutline(id: string, signal: AbortSignal): Promise<OutlineRead> {
  const spans: StateSpan[] = [];
  const done = new Map<string, number>();
  let current: string | null = null;
  for (let after = 0; ;) {
    const { items, next } = await client.events(id, { only: "outline", after, limit: PAGE }, { signal });
    for (const event of items) {
      addSpan(spans, event);
      if (event.type !== "todo") continue;
      for (const { text, status } of event.data.items)
        if (status === "completed" && !done.has(text)) done.set(text, Date.parse(event.at));
      current = event.data.items.find(({ status }) => status === "in_progress")?.text ?? null;
    }
    if (next === null) break;
    after = Number(next);
  }
  const lately: Lately[] = [...done].slice(-LATELY).map(([text, at]) => ({ text, at }));
  return { spans, lately: current === null ? lately : [...lately, { text: current, at: null }] };
}

function addSpan(spans: StateSpan[], { from, to, at }: WireEvent): void {
  if (from === to) return;
  const last = spans.pop();
  if (last !== undefined) spans.push({ ...last, to: Date.parse(at) });
  spans.push({ state: to, from: Date.parse(at), to: null });
}
