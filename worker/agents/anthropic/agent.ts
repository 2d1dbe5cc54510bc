/** The agent that a model drives: opens its memory, makes it whole, and walks from step to step. */
import { AgentFailure, type Agent, type AgentContext, type AgentResult } from "../agent.ts";
import { ModelCaller } from "./model/call.ts";
import { openClient, type ModelFacts } from "./model/client.ts";
import { Loop } from "./loop.ts";
import { ConversationLog } from "./conversation/memory.ts";
import { describeDelivered, firstMessage, systemPrompt, getTools } from "./model/request.ts";
import type { Begin } from "./conversation/records.ts";
import { repairConversation } from "./conversation/resume.ts";
import { NOTE } from "./messages.ts";
import { DEFAULT_SETTINGS, type LoopSettings } from "./settings.ts";

/**
 * The share of a model's window that a conversation fills before it is summed up, and the largest
 * window that is made use of, in tokens.
 */
const FULL = 0.6;
const LARGEST_WINDOW = 250_000;

export function createModelAgent(changes: Partial<LoopSettings> = {}): Agent {
  const settings = { ...DEFAULT_SETTINGS, ...changes };
  return {
    async run(context): Promise<AgentResult> {
      if (context.model === null)
        throw new AgentFailure("model_auth", "This installation has no model. An operator sets a model key.");
      const client = await openClient(context.model, settings.idleMs);
      const memory = new ConversationLog(context);
      const model = context.spec.model ?? settings.model;
      await start(context, memory, settings, async () => await client.facts(model, context.signal));
      // Delivery is proven before it is written down: a life that ended in between is made up for.
      for (const message of context.spec.delivered) await memory.hear(message);
      return await new Loop({ context, memory, client, caller: new ModelCaller(context, settings), settings }).run();
    },
  };
}

const own = ({ transcript }: AgentContext): boolean => transcript.records.some(({ attempt }) => attempt > 0);

async function start(
  context: AgentContext,
  memory: ConversationLog,
  settings: LoopSettings,
  facts: () => Promise<ModelFacts>,
): Promise<void> {
  const { begin } = memory.view;
  if (begin !== null && (own(context) || goesOn(begin, context, settings)))
    return await repairConversation(context, memory);
  await memory.write(await beginning(context, settings, await facts(), describeDelivered(memory.view)));
}

/**
 * A conversation is gone on with when its model and its tools are what they would be now: they
 * cannot be changed within one.
 */
function goesOn(begin: Begin, context: AgentContext, settings: LoopSettings): boolean {
  const names = (tools: Begin["tools"]): string => JSON.stringify(tools.map(({ name }) => name));
  return begin.model === (context.spec.model ?? settings.model) && names(begin.tools) === names(getTools(context));
}

async function beginning(
  context: AgentContext,
  settings: LoopSettings,
  facts: ModelFacts,
  before: string | null,
): Promise<Begin> {
  return {
    kind: "begin",
    model: context.spec.model ?? settings.model,
    effort: facts.effort ? context.spec.effort : null,
    maxTokens: Math.min(settings.maxTokens, facts.maxOutput),
    compactAt: settings.compactAt ?? Math.floor(Math.min(facts.window, LARGEST_WINDOW) * FULL),
    thinking: facts.adaptive ? "summarized" : "default",
    system: systemPrompt(),
    tools: getTools(context),
    text: firstMessage(context, settings.now(), before),
    ...(context.notes.length === 0 ? {} : { notes: context.notes.map(NOTE) }),
  };
}
