/** What a server offers: the options of a submission. */
import { z } from "zod";
import { EFFORTS, EGRESS_POLICIES, PULL_REQUEST_MODES } from "../task.ts";

/** The options of a submission on this server. */
export const capabilitiesSchema = z.strictObject({
  agents: z.array(z.string()).min(1).describe("The default first."),
  model: z.string().nullable().describe("The default model; null when no agent has a model."),
  models: z.array(z.string()).describe("Names, or prefixes followed by `*`; empty when no agent has a model."),
  efforts: z.array(z.enum(EFFORTS)),
  egress: z.array(z.enum(EGRESS_POLICIES)).min(1).describe("The default first."),
  pullRequests: z.strictObject({
    default: z.enum(PULL_REQUEST_MODES).describe("Of tasks that do not say, where a forge is known."),
    forges: z
      .array(z.strictObject({ name: z.string(), host: z.string() }))
      .describe("Whose repositories can have pull requests."),
  }),
  attachments: z
    .strictObject({
      count: z.int().describe("Attachments of one prompt or message."),
      fileBytes: z.int().describe("Largest attachment."),
      personBytes: z.int().describe("What all attachments of one person may take together."),
    })
    .nullable()
    .describe("Null = this server takes no attachments."),
});
export type Capabilities = z.infer<typeof capabilitiesSchema>;
