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
  quotas: quotasSchema.describe("What the person may use; null = no limit."),
});

/** Fields that are left out stay as they are; null = no limit. */
export const quotaChangeSchema = quotasSchema.partial().extend({
  reset: z.literal(true).optional().describe("First back to the quotas of the installation."),
});
