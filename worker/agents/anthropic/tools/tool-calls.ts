/**
 * Runs the calls of one answer in order, `finish` last: it counts only when no other call of the
 * answer failed. Neighbours that only read run at once. Each call is recorded before it starts, and
 * its result before the next call starts.
 */
import { truncate } from "../../../lib/text.ts";
import type { AgentContext } from "../../agent.ts";
import type { Call, ConversationLog } from "../conversation/conversation.ts";
import type { Result } from "../conversation/records.ts";
import type { Stopwatch } from "../stopwatch.ts";
import { isConversationTool, runConversationTool } from "./conversation-tools.ts";
import { describeCall, describeEnd } from "../loop-detection.ts";
import { CUT_OFF, FINISH_TOO_EARLY, INTERRUPTED, NOT_ASKED, TOO_MANY } from "../messages.ts";

/** At most this many calls of one answer are run, and of those that only read at once. */
const MAX_CALLS = 32;
const MAX_AT_ONCE = 8;
/**
 * Characters of one result, and of all results of one answer. Every result gets at least the last.
 */
const RESULT_LIMIT = 100_000;
const RESULTS_LIMIT = 400_000;
const MIN_RESULT_LIMIT = 1_000;

const isFinish = ({ name }: Call): boolean => name === "finish";

const READ_ONLY = new Set(["read", "grep", "glob"]);

/** True for tools that may change what a checkpoint saves. */
export const changesFiles = (name: string): boolean => !READ_ONLY.has(name) && !isConversationTool(name);

/** Gives every open call of the last answer a result. Rejects only when the agent must stop. */
export async function runToolCalls(context: AgentContext, log: ConversationLog, stopwatch: Stopwatch): Promise<void> {
  const { calls, results, stopReason } = log.conversation;
  const refusal = stopReason === "tool_use" ? null : stopReason === "max_tokens" ? CUT_OFF : NOT_ASKED;
  if (refusal === null && calls.length > MAX_CALLS)
    context.emit("notice", {
      level: "warning",
      code: "too_many_calls",
      text: `The model sent ${calls.length} calls at once; ${MAX_CALLS} are run.`,
    });
  let remaining = RESULTS_LIMIT - calls.reduce((sum, { id }) => sum + (results.get(id)?.output.length ?? 0), 0);
  const allowed = calls.slice(0, MAX_CALLS);
  const refuse = async (call: Call, output: string): Promise<void> =>
    await log.append({ kind: "result", id: call.id, output, status: "not_run" });
  for (const group of toGroups(allowed.filter(({ id }) => !results.has(id)))) {
    const notRun = refusal ?? (context.isInterrupted ? INTERRUPTED : null);
    if (notRun !== null) for (const call of group) await refuse(call, notRun);
    else remaining -= await runGroup({ context, log, stopwatch }, group, remaining);
  }
  for (const call of calls.slice(MAX_CALLS))
    if (!results.has(call.id)) await refuse(call, refusal ?? TOO_MANY(MAX_CALLS));
}

/** Calls that run at once: neighbours that only read; every other call alone, `finish` last. */
function toGroups(calls: readonly Call[]): Call[][] {
  const groups: Call[][] = [];
  for (const call of calls.toSorted((a, b) => Number(isFinish(a)) - Number(isFinish(b)))) {
    const last = groups.at(-1);
    const joins = READ_ONLY.has(call.name) && last?.every(({ name }) => READ_ONLY.has(name)) === true;
    if (joins && last !== undefined && last.length < MAX_AT_ONCE) last.push(call);
    else groups.push([call]);
  }
  return groups;
}

interface CallParts {
  readonly context: AgentContext;
  readonly log: ConversationLog;
  readonly stopwatch: Stopwatch;
}

/** @param remaining characters for the results of the answer. @returns how many were used. */
async function runGroup(parts: CallParts, group: readonly Call[], remaining: number): Promise<number> {
  const { context, log } = parts;
  for (const { id } of group) await log.append({ kind: "call", id });
  const ran = await Promise.all(group.map(async (call) => ({ call, ...(await runCall(parts, call)) })));
  let used = 0;
  for (const { call, output, status } of ran) {
    const limit = Math.max(MIN_RESULT_LIMIT, Math.min(remaining - used, RESULT_LIMIT));
    const omitted = output.length - limit;
    const recorded = omitted <= 0 ? output : `${truncate(output, limit)}\n[... ${omitted} characters left out ...]`;
    await log.append({ kind: "result", id: call.id, output: recorded, status });
    used += recorded.length;
  }
  if (group.some(({ name }) => changesFiles(name))) await context.checkpoint(log.cursor, "due");
  return used;
}

async function runCall({ context, log, stopwatch }: CallParts, call: Call): Promise<Pick<Result, "output" | "status">> {
  const failed = isFinish(call) ? findFailed(log) : [];
  if (failed.length > 0) return { output: FINISH_TOO_EARLY(failed), status: "failed" };
  if (!isConversationTool(call.name)) return await runTool(context, call);
  const save = async (): Promise<void> => await context.checkpoint(log.cursor, "always");
  return await stopwatch.paused(async () => await runConversationTool(context, call, save));
}

/** The calls of the last answer that did not succeed. */
function findFailed({ conversation: { calls, results } }: ConversationLog): string[] {
  const others = calls.filter((call) => !isFinish(call) && results.get(call.id)?.status !== "ok");
  return others.map(describeCall);
}

/** A command's result ends with how it ended; that of other tools is their output. */
async function runTool(context: AgentContext, call: Call): Promise<Pick<Result, "output" | "status">> {
  const startedAt = performance.now();
  const { output, exitCode } = await context.tool(call.name, call.input);
  const status = exitCode === 0 ? "ok" : "failed";
  if (call.name !== "bash" || call.input["background"] === true) return { output, status };
  const end = describeEnd(exitCode, performance.now() - startedAt);
  return { output: output === "" ? end : `${output.replace(/\n$/, "")}\n${end}`, status };
}
