/**
 * The ends of a log: what a page reads of a long one before it shows it. The newest events, the
 * first ones, and of what is between only what tells where the task is.
 */
import type { WireEvent } from "../../../../src/core/protocol/events.ts";
import { impatientClient } from "../client.ts";
import type { KeptLog } from "../device/kept.ts";

/** The newest events, and the most that the page reads at once of the others. */
export const PAGE = 1_000;
/** The first events: the blocks of the begin that always stay, or a few less. */
const FIRST = 200;

/**
 * @param known the seq up to which the page has the log.
 * @returns null when so little is missing that the log is better read on from there.
 */
export async function readEnds(id: string, known: number, signal: AbortSignal): Promise<KeptLog | null> {
  if (known > 0) {
    const { items } = await impatientClient.events(id, { before: "latest", limit: 1 }, { signal });
    if ((items[0]?.seq ?? 0) <= known + PAGE) return null;
  }
  const { items } = await impatientClient.events(id, { before: "latest", limit: PAGE }, { signal });
  const run = items.toReversed();
  const first = run[0]?.seq ?? 1;
  if (first === 1) return { begin: [], run };
  const [head, outline] = await Promise.all([
    impatientClient.events(id, { after: 0, limit: FIRST }, { signal }),
    readOutline(id, signal),
  ]);
  const begin = new Map([...head.items, ...outline].map((event) => [event.seq, event]));
  return { begin: [...begin.values()].filter(({ seq }) => seq < first).toSorted((a, b) => a.seq - b.seq), run };
}

async function readOutline(id: string, signal: AbortSignal): Promise<readonly WireEvent[]> {
  const events: WireEvent[] = [];
  for (let after = 0; ;) {
    const { items, next } = await impatientClient.events(id, { only: "outline", after, limit: PAGE }, { signal });
    events.push(...items);
    if (next === null) return events;
    after = Number(next);
  }
}
