/** The schemas of usage and quotas. */
import { z } from "zod";
import { quotasSchema } from "../quotas.ts";

export const usageSchema = z.strictObject({
  user: z.strictObject({ id: z.string(), email: z.string() }),
  tasks: z.strictObject({
    open: z.int().describe("Tasks that are not settled."),
    day: z.int().describe("Tasks begun in the last 24 hours."),
  }),
  usd: z.strictObject({
    day: z.number().describe("Of this UTC day, US dollars."),
    month: z.number().describe("Of this UTC month, US dollars."),
  }),
  storage: z
    .strictObject({
      total: z.int(),
      mirrors: z.int().describe("Copies of the repositories that the person's tasks work on."),
      repositories: z.int().describe("What the tasks themselves added."),
      artifacts: z.int().describe("Work that was saved from sandboxes."),
      attachments: z.int(),
      transcripts: z.int(),
    })
    .describe("What is stored for the person on this server, bytes."),
  quotas: quotasSchema.describe("What the person may use; null = no limit."),
});

/** Fields that are left out stay as they are; null = no limit. */
export const quotaChangeSchema = quotasSchema.partial().extend({
  reset: z.literal(true).optional().describe("First back to the quotas of the installation."),
});
