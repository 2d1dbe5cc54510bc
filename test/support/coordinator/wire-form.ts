/** Whether what is stored has the form that the wire's schemas describe, with no other field. */
import { eventSchema } from "../../../src/core/protocol/events.ts";
import { toWireEvent } from "../../../src/core/protocol/mapping.ts";
import type { Store } from "../../../src/core/ports/store.ts";

const TASKS = 200;
const EVENTS = 1_000;

/** One text per event that does not fit; empty = all do. */
export async function findUndescribed(store: Pick<Store, "tasks" | "events">): Promise<string[]> {
  const found: string[] = [];
  for (let before: string | undefined; ;) {
    const page = await store.tasks({ userId: null, limit: TASKS, ...(before === undefined ? {} : { before }) });
    for (const { id } of page.items) found.push(...(await findInLog(store, id)));
    before = page.items.at(-1)?.id;
    if (!page.more || before === undefined) return found;
  }
}

async function findInLog(store: Pick<Store, "events">, taskId: string): Promise<string[]> {
  const found: string[] = [];
  for (let after = 0; ;) {
    const page = await store.events(taskId, after, EVENTS);
    for (const event of page.items) {
      const { error } = eventSchema.safeParse(toWireEvent(event));
      if (error !== undefined)
        found.push(`event ${event.seq} of ${taskId}, ${event.type} ${JSON.stringify(event.data)}: ${error.message}`);
    }
    after = page.items.at(-1)?.seq ?? after;
    if (!page.more) return found;
  }
}
