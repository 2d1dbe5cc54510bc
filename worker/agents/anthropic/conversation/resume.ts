/**
 * Makes a conversation whole that an earlier life of the worker, or an earlier task, left behind.
 *
 * A call that had begun has an unknown end, and the model is told so. The files stand where the
 * last checkpoint left them: what was done after it is named, so that nobody builds on what is not
 * there.
 */
import type { AgentContext } from "../../agent.ts";
import { changesFiles } from "../tools/tool-calls.ts";
import type { Call } from "./conversation.ts";
import type { ConversationLog } from "./memory.ts";
import { readLine } from "./records.ts";
import { describeCall } from "../loop-detection.ts";
import { isConversationTool } from "../tools/conversation-tools.ts";
import { FILES, NEXT_TASK, NOT_RUN, NOTE, NOTES_CHANGED, RESUMED, TAKEN_UP, UNKNOWN } from "../messages.ts";

const NAMED = 20;

/**
 * Calls whose effects are younger than the checkpoint that the files stand at. Within one attempt
 * the files stay; a task that follows another without a checkpoint begins with what was delivered.
 */
function lostCalls({ transcript, cursor, spec }: AgentContext): string[] {
  const saved = Number(cursor ?? 0);
  const calls = new Map<string, Call>();
  const lost: string[] = [];
  for (const [i, record] of transcript.records.entries()) {
    const line = readLine(record);
    if (line.kind === "turn") {
      for (const { type, id, name, input } of line.content)
        if (type === "tool_use")
          calls.set(String(id), { id: String(id), name: String(name), input: input as Call["input"] });
    }
    const present = record.attempt === spec.attempt || (record.attempt === 0 && cursor === null);
    if (line.kind !== "result" || present || i < saved) continue;
    const call = calls.get(line.id);
    if (call !== undefined && changesFiles(call.name) && line.status !== "not_run") lost.push(describeCall(call));
  }
  return lost.length <= NAMED ? lost : [...lost.slice(0, NAMED), `and ${lost.length - NAMED} more`];
}

/**
 * Takes up a conversation that is not new. `own`: by an earlier life of this task; else by the task
 * that this one goes on from.
 */
export async function repairConversation(context: AgentContext, memory: ConversationLog): Promise<void> {
  const { prompt } = context.spec;
  const lost = lostCalls(context);
  const own = context.transcript.records.some(({ attempt }) => attempt > 0);
  let unknown = 0;
  for (const { id, name } of memory.view.open) {
    const begun = memory.view.started.has(id);
    if (own && (isConversationTool(name) || (!begun && lost.length === 0))) continue;
    if (begun) unknown += 1;
    await memory.write({
      kind: "result",
      id,
      output: begun ? UNKNOWN : NOT_RUN,
      status: begun ? "unknown" : "not_run",
    });
  }
  const notes = changedNotes(context, memory);
  const texts = notes === null ? [] : [NOTES_CHANGED(notes)];
  if (own) {
    if (lost.length > 0 || unknown > 0) texts.unshift(RESUMED(lost));
    if (texts.length > 0) await memory.tell("resumed", texts.join("\n\n"), notes);
    return;
  }
  const again = isTask(memory.view.task, prompt) && memory.view.finish === null;
  const words = again ? TAKEN_UP(prompt) : NEXT_TASK(prompt);
  await memory.tell("task", [words, ...(lost.length === 0 ? [] : [FILES(lost)]), ...texts].join("\n\n"), notes);
}

/** The notes of this attempt as the model is sent them; null when the conversation has the same. */
function changedNotes({ notes }: AgentContext, { view }: ConversationLog): string[] | null {
  const current = notes.map(NOTE);
  return JSON.stringify(current) === JSON.stringify(view.notes) ? null : current;
}

/** Older versions wrote a note into the task's text, below the prompt. */
function isTask(text: string, prompt: string): boolean {
  return text.includes(`<task>\n${prompt}\n</task>`) || text.includes(`<task>\n${prompt}\n\n[Slipway] `);
}
