/**
 * The agent that a model drives: loads its conversation, repairs or begins it, and runs the loop.
 */
import { AgentFailure, type Agent, type AgentContext, type AgentResult } from "../agent.ts";
import { ModelCaller } from "./model/call.ts";
import { openClient, type ModelFacts } from "./model/client.ts";
import { Loop } from "./loop.ts";
import { ConversationLog } from "./conversation/conversation.ts";
import { createBegin, describeDelivered, getTools } from "./model/request.ts";
import type { Begin } from "./conversation/records.ts";
import { repairConversation } from "./conversation/resume.ts";
import { DEFAULT_SETTINGS, type LoopSettings } from "./settings.ts";

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
      for (const message of context.delivered) await log.appendMessage(message);
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
  const model = context.spec.model ?? settings.model;
  const delivered = describeDelivered(log.conversation);
  await log.append(createBegin(context, settings, { model, facts: await facts(), delivered, soFar: null }));
}

/**
 * A conversation of an earlier task can be continued only with the same model and tools: neither
 * can change within a conversation.
 */
function canContinue(begin: Begin, context: AgentContext, settings: LoopSettings): boolean {
  const names = (tools: Begin["tools"]): string => JSON.stringify(tools.map(({ name }) => name));
  return begin.model === (context.spec.model ?? settings.model) && names(begin.tools) === names(getTools(context));
}
