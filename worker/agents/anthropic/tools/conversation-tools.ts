/** The tools that are conversation, not work: they touch nothing but what people see. */
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
const finishInput = z.object({ title: z.string().trim().min(1), summary: z.string().trim().min(1) });

const text = (description: string): object => ({ type: "string", description });
const schema = (properties: Record<string, object>, required: readonly string[]): Record<string, unknown> => ({
  type: "object",
  properties,
  required,
  additionalProperties: false,
});

interface ToolWords {
  readonly name: string;
  readonly description: string;
  readonly inputSchema: Readonly<Record<string, unknown>>;
}

const items = {
  type: "array",
  maxItems: 200,
  items: schema(
    {
      text: text("What is done in this step."),
      status: { type: "string", enum: ["pending", "in_progress", "completed"] },
    },
    ["text", "status"],
  ),
};

export const CONVERSATION_TOOLS: readonly ToolWords[] = [
  {
    name: "todo",
    description:
      "Replaces your list of steps. People see it as a progress bar. Make one for work of three steps or more, and send it again whenever a step begins or ends; one step at a time is in_progress.",
    inputSchema: schema({ items }, ["items"]),
  },
  {
    name: "ask_user",
    description:
      "Asks a person and waits for the answer, which may take days. Only for what you cannot find out and must not guess; the work is saved before.",
    inputSchema: schema(
      {
        question: text("One question with what is needed to answer it."),
        options: {
          type: "array",
          maxItems: 20,
          items: { type: "string" },
          description: "Answers to choose from, if there are a few.",
        },
      },
      ["question"],
    ),
  },
  {
    name: "report_progress",
    description:
      "Tells the people who follow this task one or two sentences: what you found, what you do next. Nobody sees what you only think.",
    inputSchema: schema({ text: text("What to tell.") }, ["text"]),
  },
  {
    name: "finish",
    description:
      "Ends the work. Call it alone, when what was asked for is done and checked, or when it cannot be done. The task's checks run after it, and you get their output back if they fail.",
    inputSchema: schema(
      {
        title: text("What was changed, as a commit's first line: at most 72 characters, imperative."),
        summary: text(
          "For the reviewer: what was changed and why, which checks you ran with what result, what is open or risky. Only what is true.",
        ),
      },
      ["title", "summary"],
    ),
  },
];

const NAMES = new Set(CONVERSATION_TOOLS.map(({ name }) => name));

/** Talk may be repeated after an interruption: it has no effect that a second time would spoil. */
export const isConversationTool = (name: string): boolean => NAMES.has(name);

export interface ConversationToolResult {
  readonly output: string;
  readonly status: "ok" | "failed";
}

const ok = (output: string): ConversationToolResult => ({ output, status: "ok" });

/**
 * The question's id is a function of the call, so that an answer which comes days later finds it.
 */
const questionId = (call: Call): string => `q_${call.id.replaceAll(/[^\w-]/g, "_")}`.slice(0, 64);

export function readFinish(call: Call): { readonly title: string; readonly summary: string } | null {
  return finishInput.safeParse(call.input).data ?? null;
}

/** Rejects only when the agent must stop. @param save called before a wait that may be long. */
export async function runConversationTool(
  context: AgentContext,
  call: Call,
  save: () => Promise<void>,
): Promise<ConversationToolResult> {
  switch (call.name) {
    case "todo": {
      const given = todoInput.safeParse(call.input);
      if (!given.success) return wrong(given.error);
      context.emit("todo", { items: given.data.items });
      return ok("The list is on the screen.");
    }
    case "ask_user": {
      const given = askInput.safeParse(call.input);
      if (!given.success) return wrong(given.error);
      await save();
      const answer = await context.ask(questionId(call), given.data.question, given.data.options ?? null);
      return ok(`The person answers:\n\n${answer}`);
    }
    case "report_progress": {
      const given = reportInput.safeParse(call.input);
      if (!given.success) return wrong(given.error);
      await context.message(given.data.text);
      return ok("Told.");
    }
    default: {
      const given = finishInput.safeParse(call.input);
      return given.success ? ok("Taken down. Whatever is to be checked is checked now.") : wrong(given.error);
    }
  }
}

function wrong(error: z.ZodError): ConversationToolResult {
  const words = error.issues.map(({ path, message }) => `${path.length === 0 ? "input" : path.join(".")}: ${message}`);
  return { output: `The input is not right. ${words.join("; ")}`, status: "failed" };
}
