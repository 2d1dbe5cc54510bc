/**
 * Runs the calls of one answer in order, `finish` last: it counts only when no other call of the
 * answer failed. Each call is recorded before it starts, and its result before the next call
 * starts.
 */
import { truncate } from "../../../lib/text.ts";
import type { AgentContext } from "../../agent.ts";
import type { Call } from "../conversation/conversation.ts";
import type { ConversationLog } from "../conversation/conversation-log.ts";
import type { Result } from "../conversation/records.ts";
import type { Stopwatch } from "../stopwatch.ts";
import { isConversationTool, runConversationTool } from "./conversation-tools.ts";
import { describeCall } from "../loop-detection.ts";
import { CUT_OFF, FINISH_TOO_EARLY, INTERRUPTED, NOT_ASKED, TOO_MANY } from "../messages.ts";

/** At most this many calls of one answer are run. */
const MAX_CALLS = 32;
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
  let remaining = RESULTS_LIMIT;
  const inOrder = [...calls.entries()].toSorted(([, a], [, b]) => Number(isFinish(a)) - Number(isFinish(b)));
  for (const [index, call] of inOrder) {
    const known = results.get(call.id);
    const interrupted = context.isInterrupted ? INTERRUPTED : null;
    const notRun = refusal ?? (index >= MAX_CALLS ? TOO_MANY(MAX_CALLS) : interrupted);
    if (known !== undefined) remaining -= known.output.length;
    else if (notRun !== null) await log.append({ kind: "result", id: call.id, output: notRun, status: "not_run" });
    else {
      const limit = Math.max(MIN_RESULT_LIMIT, Math.min(remaining, RESULT_LIMIT));
      remaining -= await runCall({ context, log, stopwatch }, call, limit);
    }
  }
}

interface CallParts {
  readonly context: AgentContext;
  readonly log: ConversationLog;
  readonly stopwatch: Stopwatch;
}

/** @returns the length of the result. */
async function runCall({ context, log, stopwatch }: CallParts, call: Call, limit: number): Promise<number> {
  await log.append({ kind: "call", id: call.id });
  const save = async (): Promise<void> => await context.checkpoint(log.cursor, "always");
  const failed = isFinish(call) ? findFailed(log) : [];
  const { output, status } =
    failed.length > 0
      ? { output: FINISH_TOO_EARLY(failed), status: "failed" as const }
      : isConversationTool(call.name)
        ? await stopwatch.paused(async () => await runConversationTool(context, call, save))
        : await runTool(context, call);
  const omitted = output.length - limit;
  const recorded = omitted <= 0 ? output : `${truncate(output, limit)}\n[... ${omitted} characters left out ...]`;
  await log.append({ kind: "result", id: call.id, output: recorded, status });
  if (changesFiles(call.name)) await context.checkpoint(log.cursor, "due");
  return recorded.length;
}

/** The calls of the last answer that did not succeed. */
function findFailed({ conversation: { calls, results } }: ConversationLog): string[] {
  const others = calls.filter((call) => !isFinish(call) && results.get(call.id)?.status !== "ok");
  return others.map(describeCall);
}

async function runTool(context: AgentContext, call: Call): Promise<Pick<Result, "output" | "status">> {
  const { output, exitCode } = await context.tool(call.name, call.input);
  if (exitCode === 0) return { output, status: "ok" };
  const end = exitCode === null ? "[ended by a signal or a limit]" : `[exit code ${exitCode}]`;
  return { output: output === "" ? end : `${output}\n${end}`, status: "failed" };
}
