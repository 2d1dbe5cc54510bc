/** What a server offers: the options of a submission, its bounds, and the server itself. */
import { z } from "zod";
import { EFFORTS, EGRESS_POLICIES, PULL_REQUEST_MODES } from "../task.ts";

const priceSchema = z.strictObject({
  upToPromptTokens: z.int().nullable().describe("Largest prompt of this band, in tokens; null = any."),
  input: z.number().describe("US dollars per million tokens, like the others."),
  output: z.number(),
  cacheWrite: z.number(),
  cacheRead: z.number(),
});

/** The options of a submission on this server. */
export const capabilitiesSchema = z.strictObject({
  agents: z.array(z.string()).min(1).describe("The default first."),
  model: z.string().nullable().describe("The default model; null when no agent has a model."),
  models: z.array(z.string()).describe("Names, or prefixes followed by `*`; empty when no agent has a model."),
  reviewModel: z.string().nullable().describe("Reviews changes on request; null = no review is possible."),
  efforts: z.array(z.enum(EFFORTS)),
  egress: z.array(z.enum(EGRESS_POLICIES)).min(1).describe("The default first."),
  pullRequests: z.strictObject({
    default: z.enum(PULL_REQUEST_MODES).describe("Of tasks that do not say, where a forge is known."),
    forges: z
      .array(z.strictObject({ name: z.string(), host: z.string() }))
      .describe("Whose repositories can have pull requests."),
  }),
  commits: z
    .strictObject({
      author: z.string().nullable().describe("`Name <e-mail>`; null = the person who asked for the work."),
      signed: z.boolean().describe("True = the server signs them when it pushes."),
    })
    .describe("Who the author is, of people who chose nothing else."),
  attachments: z
    .strictObject({
      count: z.int().describe("Attachments of one prompt or message."),
      fileBytes: z.int().describe("Largest attachment."),
      personBytes: z.int().describe("What all attachments of one person may take together."),
    })
    .nullable()
    .describe("Null = this server takes no attachments."),
  images: z
    .array(z.string())
    .nullable()
    .describe("Images that may be chosen, names or prefixes followed by `*`; null = the sandbox has no images."),
  tasksExpireDays: z
    .int()
    .nullable()
    .describe("Days after its end until a task is deleted; null = it is kept until somebody deletes it."),
  prices: z
    .record(z.string(), z.array(priceSchema))
    .describe("By model, in bands of ascending size: what the server charges against budgets."),
  windows: z
    .record(z.string(), z.int())
    .describe("By model: the most tokens of a request, as the provider said since this server started."),
  defaults: z
    .strictObject({
      maxAttempts: z.int(),
      minutes: z.number().describe("Of working time; waiting for an answer does not count."),
      threadUsd: z.number().nullable().describe("Model budget of a thread, US dollars; null = no limit."),
    })
    .describe("Of submissions that do not say. The first agent and egress policy, and `model`, are defaults too."),
  limits: z
    .strictObject({
      memoryMb: z.int(),
      cpus: z.number(),
      diskMb: z.int(),
      maxAttempts: z.int(),
      promptLength: z.int().describe("UTF-16 units."),
      messageLength: z.int().describe("UTF-16 units."),
      bodyBytes: z.int().describe("Of the JSON of a request."),
    })
    .describe("The most that a request may ask for."),
});
export type Capabilities = z.infer<typeof capabilitiesSchema>;

export const FEATURES = ["pull_requests", "images", "models", "web_push", "egress_lists"] as const;

export const configSchema = capabilitiesSchema.extend({
  version: z.string().describe("Of the server."),
  serverTime: z.iso.datetime().describe("When the answer was made: a client measures how its own clock differs."),
  features: z.array(z.enum(FEATURES)).describe("What this server has and another may lack."),
});
export type ServerConfig = z.infer<typeof configSchema>;
