/** The tools that only communicate with people: they change no files. */
import { z } from "zod";
import type { AgentContext } from "../../agent.ts";
import type { Call } from "../conversation/conversation.ts";

const todoInput = z.object({
  items: z
    .array(z.object({ text: z.string().min(1), status: z.enum(["pending", "in_progress", "completed"]) }))
    .max(200),
});
const askInput = z.object({ question: z.string().min(1), options: z.array(z.string().min(1)).max(20).optional() });
const reportInput = z.object({ text: z.string().min(1) });
const finishInput = z.object({ title: z.string().trim().min(1).optional(), summary: z.string().trim().min(1) });

const text = (description: string): object => ({ type: "string", description });
const schema = (properties: Record<string, object>, required: readonly string[]): Record<string, unknown> => ({
  type: "object",
  properties,
  required,
  additionalProperties: false,
});

interface ToolDefinition {
  readonly name: string;
  readonly description: string;
  readonly inputSchema: Readonly<Record<string, unknown>>;
}

const items = {
  type: "array",
  maxItems: 200,
  items: schema(
    {
      text: text("What this step does."),
      status: { type: "string", enum: ["pending", "in_progress", "completed"] },
    },
    ["text", "status"],
  ),
};

export const CONVERSATION_TOOLS: readonly ToolDefinition[] = [
  {
    name: "todo",
    description:
      "Replaces your list of steps. People see it as a progress bar. Make one for work of three steps or more, and send it again each time a step begins or ends; one step at a time is in_progress.",
    inputSchema: schema({ items }, ["items"]),
  },
  {
    name: "ask_user",
    description:
      "Asks a person and waits for the answer, which may take days. Use it only for what you cannot find out and must not guess. The work is saved first.",
    inputSchema: schema(
      {
        question: text("One question, with everything that is needed to answer it."),
        options: {
          type: "array",
          maxItems: 20,
          items: { type: "string" },
          description: "The possible answers, if there are only a few.",
        },
      },
      ["question"],
    ),
  },
  {
    name: "report_progress",
    description:
      "Sends one or two sentences to the people who follow this task: what you found, what you do next. People do not see your thinking.",
    inputSchema: schema({ text: text("The message.") }, ["text"]),
  },
  {
    name: "finish",
    description:
      "Ends the work. Call it alone, when the task is done and checked, or when it cannot be done. The task's checks run after it; you get their output if they fail.",
    inputSchema: schema(
      {
        title: text(
          "What was changed, as a commit's first line: at most 72 characters, in the repository's style. Leave it out when no file was to be changed.",
        ),
        summary: text(
          "For the reviewer: the answer to a question, or what was changed and why, which checks you ran and their results, what is open or risky. Only true statements.",
        ),
      },
      ["summary"],
    ),
  },
];

const NAMES = new Set(CONVERSATION_TOOLS.map(({ name }) => name));

/** These tools are idempotent: they may be run again after an interruption. */
export const isConversationTool = (name: string): boolean => NAMES.has(name);

export interface ConversationToolResult {
  readonly output: string;
  readonly status: "ok" | "failed";
}

const NO_TITLE =
  "Not accepted: files were changed, and the title is missing. Give the title of the change, or restore the files (`git status`) if none was wanted.";

const ok = (output: string): ConversationToolResult => ({ output, status: "ok" });

/** The question's id is derived from the call, so that a later attempt finds the answer. */
const toQuestionId = (call: Call): string => `q_${call.id.replaceAll(/[^\w-]/g, "_")}`.slice(0, 64);

/** The input of a `finish` call; null when it is invalid. Without a title nothing was changed. */
export function readFinish(call: Call): { readonly title?: string | undefined; readonly summary: string } | null {
  return finishInput.safeParse(call.input).data ?? null;
}

/** Rejects only when the agent must stop. @param save called before the wait for a person. */
export async function runConversationTool(
  context: AgentContext,
  call: Call,
  save: () => Promise<void>,
): Promise<ConversationToolResult> {
  switch (call.name) {
    case "todo": {
      const input = todoInput.safeParse(call.input);
      if (!input.success) return invalidInput(input.error);
      context.emit("todo", { items: input.data.items });
      return ok("The list is on the screen.");
    }
    case "ask_user": {
      const input = askInput.safeParse(call.input);
      if (!input.success) return invalidInput(input.error);
      await save();
      const answer = await context.ask(toQuestionId(call), input.data.question, input.data.options ?? null);
      return ok(`The person answers:\n\n${answer}`);
    }
    case "report_progress": {
      const input = reportInput.safeParse(call.input);
      if (!input.success) return invalidInput(input.error);
      await context.message(input.data.text);
      return ok("Sent.");
    }
    default: {
      const input = finishInput.safeParse(call.input);
      if (!input.success) return invalidInput(input.error);
      if (input.data.title === undefined && (await context.changes()) !== "")
        return { output: NO_TITLE, status: "failed" };
      return ok("Accepted. The checks run now.");
    }
  }
}

function invalidInput(error: z.ZodError): ConversationToolResult {
  const issues = error.issues.map(({ path, message }) => `${path.length === 0 ? "input" : path.join(".")}: ${message}`);
  return { output: `The input is invalid. ${issues.join("; ")}`, status: "failed" };
}
