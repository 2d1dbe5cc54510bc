/**
 * The agent that a model drives: loads its conversation, repairs or begins it, and runs the loop.
 */
import { AgentFailure, type Agent, type AgentContext, type AgentResult } from "../agent.ts";
import { ModelCaller } from "./model/call.ts";
import { openClient, type ModelFacts } from "./model/client.ts";
import { Loop } from "./loop.ts";
import { ConversationLog } from "./conversation/conversation-log.ts";
import { describeDelivered, firstMessage, systemPrompt, getTools } from "./model/request.ts";
import type { Begin } from "./conversation/records.ts";
import { repairConversation } from "./conversation/resume.ts";
import { NOTE } from "./messages.ts";
import { DEFAULT_SETTINGS, type LoopSettings } from "./settings.ts";

/**
 * The share of the model's window that a conversation fills before it is summarized, and the
 * largest window that is used, in tokens.
 */
const COMPACT_SHARE = 0.6;
const MAX_WINDOW = 250_000;

export function createModelAgent(changes: Partial<LoopSettings> = {}): Agent {
  const settings = { ...DEFAULT_SETTINGS, ...changes };
  return {
    async run(context): Promise<AgentResult> {
      if (context.model === null)
        throw new AgentFailure("model_auth", "This installation has no model. An operator must set a model key.");
      const client = await openClient(context.model, settings.idleMs);
      const log = new ConversationLog(context);
      const model = context.spec.model ?? settings.model;
      await start(context, log, settings, async () => await client.facts(model, context.signal));
      // A message is reported as delivered before it is recorded: an earlier process may have ended
      // between the two.
      for (const message of context.spec.delivered) await log.appendMessage(message);
      return await new Loop({ context, log, client, caller: new ModelCaller(context, settings), settings }).run();
    },
  };
}

/** True when an attempt of this task wrote a part of the transcript. */
const hasOwnRecords = ({ transcript }: AgentContext): boolean => transcript.records.some(({ attempt }) => attempt > 0);

async function start(
  context: AgentContext,
  log: ConversationLog,
  settings: LoopSettings,
  facts: () => Promise<ModelFacts>,
): Promise<void> {
  const { begin } = log.conversation;
  if (begin !== null && (hasOwnRecords(context) || canContinue(begin, context, settings)))
    return await repairConversation(context, log);
  await log.append(createBegin(context, settings, await facts(), describeDelivered(log.conversation)));
}

/**
 * A conversation of an earlier task can be continued only with the same model and tools: neither
 * can change within a conversation.
 */
function canContinue(begin: Begin, context: AgentContext, settings: LoopSettings): boolean {
  const names = (tools: Begin["tools"]): string => JSON.stringify(tools.map(({ name }) => name));
  return begin.model === (context.spec.model ?? settings.model) && names(begin.tools) === names(getTools(context));
}

/** @param delivered the result of the earlier task; null = there is none. */
function createBegin(
  context: AgentContext,
  settings: LoopSettings,
  facts: ModelFacts,
  delivered: string | null,
): Begin {
  return {
    kind: "begin",
    model: context.spec.model ?? settings.model,
    effort: facts.effort ? context.spec.effort : null,
    maxTokens: Math.min(settings.maxTokens, facts.maxOutput),
    compactAt: settings.compactAt ?? Math.floor(Math.min(facts.window, MAX_WINDOW) * COMPACT_SHARE),
    thinking: facts.adaptive ? "summarized" : "default",
    system: systemPrompt(),
    tools: getTools(context),
    text: firstMessage(context, settings.now(), delivered),
    ...(context.notes.length === 0 ? {} : { notes: context.notes.map(NOTE) }),
  };
}
