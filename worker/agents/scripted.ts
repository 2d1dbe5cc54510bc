/**
 * The agent that follows a script: no model, but the real tools. For demonstrations and tests.
 *
 * S1 The cursor is the index of the next step. The next attempt runs that step again, so `fail` and
 *    `exit` happen in every attempt.
 * S2 A question's id is derived from the task and the index of its step, so that later attempts
 *    find the answer.
 */
import { NO_USAGE, type ScriptStep } from "../../src/core/task.ts";
import { AgentFailure, WorkerExit, type Agent, type AgentContext, type AgentResult } from "./agent.ts";

const TITLE_LIMIT = 72;

const firstLine = (text: string): string =>
  (text.trim().split("\n")[0] ?? "").slice(0, TITLE_LIMIT).trim() || "Changes by the scripted agent";

/** The script of a task that has none. */
function defaultScript(prompt: string): ScriptStep[] {
  return [
    { say: "I am the scripted agent: I do the same for every prompt. I will write yours to SLIPWAY.md." },
    {
      todo: [
        { text: "Write SLIPWAY.md", status: "in_progress" },
        { text: "Look at the result", status: "pending" },
      ],
    },
    {
      write: {
        path: "SLIPWAY.md",
        content: `# Slipway was here\n\nThe prompt was:\n\n${prompt.replace(/^/gm, "> ")}\n`,
      },
    },
    { bash: "wc -l SLIPWAY.md && git status --short" },
    {
      todo: [
        { text: "Write SLIPWAY.md", status: "completed" },
        { text: "Look at the result", status: "completed" },
      ],
    },
    {
      finish: {
        title: `Note the prompt: ${firstLine(prompt)}`.slice(0, TITLE_LIMIT),
        summary: "Added SLIPWAY.md, which holds the prompt.",
      },
    },
  ];
}

export const scriptedAgent: Agent = {
  async run(context) {
    const { spec } = context;
    const script = spec.script ?? defaultScript(spec.prompt);
    let result: AgentResult = { title: firstLine(spec.prompt), summary: "The script ended." };
    let finished = false;
    for (let index = parseCursor(context.cursor); index < script.length && !finished; index += 1) {
      const step = script[index];
      if (step === undefined) break;
      context.signal.throwIfAborted();
      context.mark(String(index));
      await acknowledgeMessages(context, "step");
      if ("finish" in step) {
        result = step.finish;
        finished = true;
      } else if (await runStep(context, step, index)) await context.checkpoint(String(index + 1), "due");
    }
    await acknowledgeMessages(context, "end");
    await context.checkpoint(String(script.length), "now");
    return result;
  },
};

function parseCursor(cursor: string | null): number {
  const index = Number(cursor ?? 0);
  return Number.isSafeInteger(index) && index > 0 ? index : 0;
}

async function acknowledgeMessages(context: AgentContext, point: "step" | "end"): Promise<void> {
  for (const message of await context.receiveMessages(point))
    await context.message(`Message received: "${message.text}"`);
}

/** @returns true when the step may have changed files. */
async function runStep(
  context: AgentContext,
  step: Exclude<ScriptStep, { finish: unknown }>,
  index: number,
): Promise<boolean> {
  if ("say" in step) return (await context.message(step.say), false);
  if ("bash" in step)
    return (
      await context.tool("bash", { command: step.bash, ...withoutUndefined({ timeoutMs: step.timeoutMs }) }), true
    );
  if ("read" in step) return (await context.tool("read", { path: step.read }), false);
  if ("write" in step) return (await context.tool("write", step.write), true);
  if ("edit" in step) return (await context.tool("edit", step.edit), true);
  if ("todo" in step) return (context.emit("todo", { items: step.todo }), false);
  if ("ask" in step) return (await ask(context, step.ask, index), false);
  if ("wait" in step) return (await context.sleep(step.wait), false);
  if ("usage" in step) return (context.emit("usage", { ...NO_USAGE, ...withoutUndefined(step.usage) }), false);
  if ("commit" in step) return (await context.commit(step.commit), true);
  if ("hang" in step) return await context.hang();
  await context.checkpoint(String(index), "now");
  if ("exit" in step) throw new WorkerExit(step.exit);
  throw new AgentFailure(step.fail.code, step.fail.message);
}

async function ask(
  context: AgentContext,
  { question, options }: { question: string; options?: string[] | undefined },
  index: number,
): Promise<void> {
  await context.checkpoint(String(index), "always");
  const answer = await context.ask(`q_${context.spec.taskId}_${index}`.slice(-64), question, options ?? null);
  await context.message(`The answer is: ${answer}`);
}

/** Omits the keys whose value is undefined. */
function withoutUndefined<T extends object>(values: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: NonNullable<T[K]>;
  };
}
