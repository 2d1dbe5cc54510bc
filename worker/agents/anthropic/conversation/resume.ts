/**
 * Completes a conversation that an earlier worker process, attempt or task has left, so that it can
 * be continued.
 *
 * A call that had started gets an unknown result, and the model is asked to check its effects. The
 * files are those of the last checkpoint: later calls that changed files are named, so that the
 * model does not rely on their effects.
 */
import type { AgentContext } from "../../agent.ts";
import { changesFiles } from "../tools/tool-calls.ts";
import type { Call, ConversationLog } from "./conversation.ts";
import { parseRecord } from "./records.ts";
import { describeCall } from "../loop-detection.ts";
import { isConversationTool } from "../tools/conversation-tools.ts";
import { FILES, NEXT_TASK, NOT_RUN, NOTE, NOTES_CHANGED, RESUMED, TAKEN_UP, UNKNOWN } from "../messages.ts";

/** At most this many lost calls are named. */
const MAX_NAMED_CALLS = 20;

/**
 * The calls whose effects the files lack, because they are later than the checkpoint. Within one
 * attempt the files are kept. A task that continues another one without a checkpoint starts with
 * everything that was delivered.
 */
function findLostCalls({ transcript, cursor, spec }: AgentContext): string[] {
  const saved = Number(cursor ?? 0);
  const calls = new Map<string, Call>();
  const lost: string[] = [];
  for (const [index, stored] of transcript.records.entries()) {
    const record = parseRecord(stored);
    if (record.kind === "turn") {
      for (const { type, id, name, input } of record.content)
        if (type === "tool_use")
          calls.set(String(id), { id: String(id), name: String(name), input: input as Call["input"] });
    }
    const isInFiles = stored.attempt === spec.attempt || (stored.attempt === 0 && cursor === null);
    if (record.kind !== "result" || isInFiles || index < saved) continue;
    const call = calls.get(record.id);
    if (call !== undefined && changesFiles(call.name) && record.status !== "not_run") lost.push(describeCall(call));
  }
  return lost.length <= MAX_NAMED_CALLS
    ? lost
    : [...lost.slice(0, MAX_NAMED_CALLS), `and ${lost.length - MAX_NAMED_CALLS} more`];
}

/**
 * Appends what the conversation lacks: results of open calls, the state of the files, changed notes
 * and, when an earlier task wrote the conversation, the task.
 */
export async function repairConversation(context: AgentContext, log: ConversationLog): Promise<void> {
  const { prompt } = context.spec;
  const lost = findLostCalls(context);
  const isOwn = context.transcript.records.some(({ attempt }) => attempt > 0);
  const unknown = await closeCalls(log, isOwn, lost.length > 0);
  const notes = changedNotes(context, log);
  const texts = notes === null ? [] : [NOTES_CHANGED(notes)];
  if (isOwn) {
    if (lost.length > 0 || unknown > 0) texts.unshift(RESUMED(lost));
    if (texts.length > 0) await log.appendText("resumed", texts.join("\n\n"), notes);
    return;
  }
  const isSameTask = isTask(log.conversation.task, prompt) && log.conversation.finish === null;
  texts.unshift(isSameTask ? TAKEN_UP(prompt) : NEXT_TASK(prompt), ...(lost.length === 0 ? [] : [FILES(lost)]));
  if (context.attached !== "") texts.push(context.attached);
  await log.appendText("task", texts.join("\n\n"), notes, context.pictures);
}

/**
 * Gives open calls a result, except the ones of this task that can still be run: conversation
 * tools, and calls that had not started while no effects are lost.
 * @returns the number of calls whose result is unknown.
 */
async function closeCalls(log: ConversationLog, isOwn: boolean, hasLostCalls: boolean): Promise<number> {
  let unknown = 0;
  for (const { id, name } of log.conversation.openCalls) {
    const started = log.conversation.started.has(id);
    if (isOwn && (isConversationTool(name) || (!started && !hasLostCalls))) continue;
    if (started) unknown += 1;
    const output = started ? UNKNOWN : NOT_RUN;
    await log.append({ kind: "result", id, output, status: started ? "unknown" : "not_run" });
  }
  return unknown;
}

/** The notes of this attempt as the model is sent them; null when the conversation has the same. */
function changedNotes({ notes }: AgentContext, { conversation }: ConversationLog): string[] | null {
  const current = notes.map(NOTE);
  return JSON.stringify(current) === JSON.stringify(conversation.notes) ? null : current;
}

/** Earlier versions wrote a note into the task's text, below the prompt. */
function isTask(text: string, prompt: string): boolean {
  return text.includes(`<task>\n${prompt}\n</task>`) || text.includes(`<task>\n${prompt}\n\n[Slipway] `);
}
