/** The schemas of people, their sessions and their log-ins. */
import { z } from "zod";

const time = z.iso.datetime();

/** Why a log-in with a provider did not end in a session. Clients branch on them. */
export const LOGIN_PROBLEMS = [
  "expired",
  "denied",
  "provider_failed",
  "not_proved",
  "misconfigured",
  "not_allowed",
  "unverified_email",
  "email_taken",
  "linked_elsewhere",
  "disabled",
  "fresh_login_required",
] as const;
export type LoginProblem = (typeof LOGIN_PROBLEMS)[number];

/** Providers that this server accepts log-ins of. */
export const providersSchema = z.strictObject({
  items: z.array(z.strictObject({ id: z.string(), name: z.string(), startUrl: z.string() })),
});
export type LoginProvider = z.infer<typeof providersSchema>["items"][number];

/** A path of the app, where the log-in ends. */
const pathSchema = z
  .string()
  .max(1_000)
  .regex(/^\/(?![/\\])[\x21-\x7e]*$/, "must be a path of this server");

export const startLoginSchema = z.strictObject({
  next: pathSchema.optional().describe("The path of the app where the log-in ends."),
  link: z
    .enum(["true", "false"])
    .optional()
    .describe("`true` links the provider to the person of this browser's session."),
});

export const identitySchema = z.strictObject({
  id: z.string(),
  /** The id of the provider; null = this server no longer accepts its log-ins. */
  provider: z.string().nullable(),
  issuer: z.string(),
  name: z.string(),
  createdAt: time,
  lastUsedAt: time.nullable(),
});
