/**
 * Makes a conversation whole that an earlier life of the worker, or an earlier task, left behind.
 *
 * A call that had begun has an unknown end, and the model is told so. The files stand where the last checkpoint left them: what was done after it
 * is named, so that nobody builds on what is not there.
 */
import type { AgentContext } from "../agent.ts";
import { changesFiles } from "./calls.ts";
import type { Call } from "./fold.ts";
import type { Memory } from "./memory.ts";
import { readLine } from "./records.ts";
import { brief } from "./stuck.ts";
import { isTalk } from "./talk.ts";
import { NOT_RUN, RESUMED, UNKNOWN } from "./words.ts";

const NAMED = 20;

/** Calls of earlier attempts whose effects are younger than the checkpoint that the files stand at; within one attempt the files stay. */
function lostCalls({ transcript, cursor, spec }: AgentContext): string[] {
  const saved = Number(cursor ?? 0);
  const calls = new Map<string, Call>();
  const lost: string[] = [];
  for (const [i, record] of transcript.records.entries()) {
    const line = readLine(record);
    if (line.kind === "turn") {
      for (const { type, id, name, input } of line.content)
        if (type === "tool_use") calls.set(String(id), { id: String(id), name: String(name), input: input as Call["input"] });
    }
    if (line.kind !== "result" || record.attempt === 0 || record.attempt === spec.attempt || i < saved) continue;
    const call = calls.get(line.id);
    if (call !== undefined && changesFiles(call.name) && line.status !== "not_run") lost.push(brief(call));
  }
  return lost.length <= NAMED ? lost : [...lost.slice(0, NAMED), `and ${lost.length - NAMED} more`];
}

/** Of a conversation that is not new. */
export async function resume(context: AgentContext, memory: Memory): Promise<void> {
  const lost = lostCalls(context);
  const own = context.transcript.records.some(({ attempt }) => attempt > 0);
  let unknown = 0;
  for (const { id, name } of memory.view.open) {
    const begun = memory.view.started.has(id);
    if (own && (isTalk(name) || (!begun && lost.length === 0))) continue;
    if (begun) unknown += 1;
    await memory.write({ kind: "result", id, output: begun ? UNKNOWN : NOT_RUN, status: begun ? "unknown" : "not_run" });
  }
  if (own && (lost.length > 0 || unknown > 0)) await memory.tell("resumed", RESUMED(lost));
}
