/**
 * How a task is named on the command line: by its id, by a beginning or end of it that no other
 * recent task has, or as `last`.
 */
import type { SlipwayClient } from "../client/client.ts";
import { SlipwayProblem } from "../client/problem.ts";
import type { Page } from "../client/types.ts";
import type { WireTask } from "../core/protocol/rest.ts";
import { CliExit, EXIT } from "./exit.ts";
import { stripControls, truncate } from "./terminal/text.ts";

const WHOLE = /^task_[0-9a-z]{26}$/;
/** A shorter piece would be a coincidence. */
const SHORTEST = 4;
const PAGES = 10;
const SHOWN = 5;

/** @throws CliExit when no task, or more than one, is meant. */
export async function findTaskId(server: SlipwayClient, text: string): Promise<string> {
  const wanted = text.toLowerCase();
  if (WHOLE.test(wanted)) return wanted;
  if (wanted === "last") {
    const [newest] = (await server.tasks({ limit: 1 })).items;
    if (newest === undefined) throw new CliExit(EXIT.failed, "There is no task yet.");
    return newest.id;
  }
  if (wanted.startsWith("task_") && (await exists(server, wanted))) return wanted;
  const found = wanted.length < SHORTEST ? [] : await search(server, wanted);
  const [only] = found;
  if (only !== undefined && found.length === 1) return only.id;
  if (only === undefined) throw new CliExit(EXIT.failed, describeNone(text));
  const lines = found.slice(0, SHOWN).map(({ id, title }) => `  ${id}  ${truncate(stripControls(title), 50)}`);
  const more = found.length > SHOWN ? [`  and ${found.length - SHOWN} more`] : [];
  throw new CliExit(EXIT.usage, [`Several tasks match "${stripControls(text)}":`, ...lines, ...more].join("\n"));
}

async function exists(server: SlipwayClient, id: string): Promise<boolean> {
  try {
    await server.task(id);
    return true;
  } catch (thrown) {
    if (thrown instanceof SlipwayProblem && thrown.status === 404) return false;
    throw thrown;
  }
}

function describeNone(text: string): string {
  return `No task matches "${truncate(stripControls(text), 50)}". Give its id, its last ${SHORTEST} or more characters, or "last"; \`slipway tasks\` lists them.`;
}

/** Among the newest tasks that the user may see. */
async function search(server: SlipwayClient, wanted: string): Promise<WireTask[]> {
  const found: WireTask[] = [];
  let cursor: string | null = null;
  for (let page = 0; page < PAGES; page += 1) {
    const { items, next }: Page<WireTask> = await server.tasks({
      limit: 200,
      ...(cursor === null ? {} : { cursor }),
    });
    found.push(
      ...items.filter(({ id }) => id.startsWith(wanted) || id.startsWith(`task_${wanted}`) || id.endsWith(wanted)),
    );
    if (next === null) break;
    cursor = next;
  }
  return found;
}
