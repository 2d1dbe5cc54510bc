/**
 * Runs the calls of one answer, one after the other: each is written down before it begins, and its
 * result before the next.
 */
import { truncate } from "../../../lib/text.ts";
import type { AgentContext } from "../../agent.ts";
import type { Call } from "../conversation/conversation.ts";
import type { ConversationLog } from "../conversation/memory.ts";
import type { Result } from "../conversation/records.ts";
import type { Stopwatch } from "../stopwatch.ts";
import { isConversationTool, runConversationTool } from "./conversation-tools.ts";
import { CUT_OFF, NOT_ASKED, TOO_MANY } from "../messages.ts";

/** Calls of one answer that are run. */
const CALLS = 32;
/** Characters of one result, and of all results of one answer: what a window holds at most. */
const RESULT_LIMIT = 100_000;
const RESULTS_LIMIT = 400_000;

/** Look, but change nothing that a checkpoint holds. */
const READ_ONLY = new Set(["read", "grep", "glob"]);
export const changesFiles = (name: string): boolean => !READ_ONLY.has(name) && !isConversationTool(name);

/**
 * Gives every call of the last answer that has none yet its result. Rejects only when the agent
 * must stop.
 */
export async function runToolCalls(context: AgentContext, memory: ConversationLog, watch: Stopwatch): Promise<void> {
  const { view } = memory;
  const refusal = view.stop === "tool_use" ? null : view.stop === "max_tokens" ? CUT_OFF : NOT_ASKED;
  const all = view.calls;
  if (refusal === null && all.length > CALLS)
    context.emit("notice", {
      level: "warning",
      code: "too_many_calls",
      text: `The model sent ${all.length} calls at once; ${CALLS} are run.`,
    });
  let room = RESULTS_LIMIT;
  for (const [i, call] of all.entries()) {
    const known = view.results.get(call.id);
    if (known !== undefined) room -= known.output.length;
    else if (refusal !== null) await memory.write({ kind: "result", id: call.id, output: refusal, status: "not_run" });
    else if (i >= CALLS)
      await memory.write({ kind: "result", id: call.id, output: TOO_MANY(CALLS), status: "not_run" });
    else room -= await runOne({ context, memory, watch }, call, Math.max(1_000, Math.min(room, RESULT_LIMIT)));
  }
}

interface Hands {
  readonly context: AgentContext;
  readonly memory: ConversationLog;
  readonly watch: Stopwatch;
}

/** @returns how long the result is. */
async function runOne({ context, memory, watch }: Hands, call: Call, limit: number): Promise<number> {
  await memory.write({ kind: "call", id: call.id });
  const { output, status } = isConversationTool(call.name)
    ? await watch.paused(
        async () =>
          await runConversationTool(context, call, async () => await context.checkpoint(memory.cursor, "always")),
      )
    : await work(context, call);
  const shown =
    output.length <= limit
      ? output
      : `${truncate(output, limit)}\n[... ${output.length - limit} characters left out ...]`;
  await memory.write({ kind: "result", id: call.id, output: shown, status });
  if (changesFiles(call.name)) await context.checkpoint(memory.cursor, "due");
  return shown.length;
}

async function work(context: AgentContext, call: Call): Promise<Pick<Result, "output" | "status">> {
  const { output, exitCode } = await context.tool(call.name, call.input);
  if (exitCode === 0) return { output, status: "ok" };
  const end = exitCode === null ? "[ended by a signal or a limit]" : `[exit code ${exitCode}]`;
  return { output: output === "" ? end : `${output}\n${end}`, status: "failed" };
}
