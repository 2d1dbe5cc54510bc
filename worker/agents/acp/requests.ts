/**
 * Answers an agent program's requests. Permissions are granted, because the container confines the
 * program; forms are answered by a person.
 */
import { createHash } from "node:crypto";
import type {
  CreateElicitationRequest,
  CreateElicitationResponse,
  RequestPermissionRequest,
  RequestPermissionResponse,
} from "@agentclientprotocol/sdk";
import { z } from "zod";
import type { AgentContext } from "../agent.ts";
import { CURSOR } from "../programs/turns.ts";
import type { AcpEventMapper } from "../programs/event-mapper.ts";

const MAX_FIELDS = 10;

/** Grants a permission once rather than always, so that each use is reported. */
export function grantPermission(
  { toolCall, options }: RequestPermissionRequest,
  events: AcpEventMapper,
): RequestPermissionResponse {
  const kinds = ["allow_once", "allow_always"];
  const chosen = kinds.flatMap((kind) => options.filter((option) => option.kind === kind))[0];
  if (chosen === undefined) return { outcome: { outcome: "cancelled" } };
  events.notice(
    "info",
    "permission_given",
    `The agent asked for a permission, which was granted because the container confines it: ${toolCall.title ?? toolCall.toolCallId}`,
  );
  return { outcome: { outcome: "selected", optionId: chosen.optionId } };
}

/** The part of a form's schema that is used. */
const fieldSchema = z.object({
  type: z.string().optional(),
  title: z.string().optional(),
  description: z.string().optional(),
  enum: z.array(z.string()).optional(),
  oneOf: z.array(z.object({ const: z.string(), title: z.string().optional() })).optional(),
});
const formSchema = z.object({
  mode: z.literal("form"),
  message: z.string(),
  requestedSchema: z.object({ properties: z.record(z.string(), fieldSchema).optional() }),
});
type Field = z.infer<typeof fieldSchema>;

/**
 * Asks a person one question per field. Other requests (an address to visit, too many fields) are
 * declined.
 */
export async function answerElicitation(
  request: CreateElicitationRequest,
  context: AgentContext,
  events: AcpEventMapper,
): Promise<CreateElicitationResponse> {
  const form = formSchema.safeParse(request);
  const fields = form.success ? Object.entries(form.data.requestedSchema.properties ?? {}) : [];
  if (!form.success || fields.length === 0 || fields.length > MAX_FIELDS) {
    events.notice(
      "warning",
      "question_declined",
      `The agent asked something that cannot be shown here: ${String(request.message)}`,
    );
    return { action: "decline" };
  }
  const content: Record<string, string | number | boolean> = {};
  for (const [name, field] of fields) {
    const details = fields.length === 1 ? [] : [field.title ?? name, field.description ?? ""];
    const question = context.secrets.redact([form.data.message, ...details].filter((text) => text !== "").join("\n"));
    const options =
      field.enum ??
      field.oneOf?.map((option) => option.title ?? option.const) ??
      (field.type === "boolean" ? ["yes", "no"] : null);
    // The id is derived from the question, so that a later attempt finds the answer.
    const id = `q_acp_${createHash("sha256").update(`${context.spec.taskId}\0${name}\0${question}`).digest("hex").slice(0, 32)}`;
    await context.checkpoint(CURSOR, "always");
    content[name] = parseAnswer(field, await context.ask(id, question, options));
  }
  return { action: "accept", content };
}

function parseAnswer(field: Field, text: string): string | number | boolean {
  if (field.type === "boolean") return /^(y|yes|true|1)$/i.test(text.trim());
  if (field.type === "number" || field.type === "integer") {
    const number = Number(text);
    return Number.isFinite(number) && text.trim() !== "" ? number : text;
  }
  return field.oneOf?.find(({ const: value, title }) => (title ?? value) === text)?.const ?? text;
}
