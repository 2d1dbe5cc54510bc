/**
 * An agent program's questions: permissions are given, because the container is what confines it;
 * forms go to a person.
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
import type { AcpEventMapper } from "./event-mapper.ts";

const FIELDS = 10;

/** Allowed once, so that each is seen. */
export function grantPermission(
  { toolCall, options }: RequestPermissionRequest,
  screen: AcpEventMapper,
): RequestPermissionResponse {
  const kinds = ["allow_once", "allow_always"];
  const chosen = kinds.flatMap((kind) => options.filter((option) => option.kind === kind))[0];
  if (chosen === undefined) return { outcome: { outcome: "cancelled" } };
  screen.notice(
    "info",
    "permission_given",
    `The agent asked for permission, and the container's limits allow it: ${toolCall.title ?? toolCall.toolCallId}`,
  );
  return { outcome: { outcome: "selected", optionId: chosen.optionId } };
}

/** As much of a form's schema as is asked for. */
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
 * One question per field. What cannot be shown (an address to visit, too many fields) is declined.
 */
export async function answerElicitation(
  request: CreateElicitationRequest,
  context: AgentContext,
  screen: AcpEventMapper,
): Promise<CreateElicitationResponse> {
  const form = formSchema.safeParse(request);
  const fields = form.success ? Object.entries(form.data.requestedSchema.properties ?? {}) : [];
  if (!form.success || fields.length === 0 || fields.length > FIELDS) {
    screen.notice(
      "warning",
      "question_declined",
      `The agent asked something that cannot be shown here: ${String(request.message)}`,
    );
    return { action: "decline" };
  }
  const content: Record<string, string | number | boolean> = {};
  for (const [name, field] of fields) {
    const about = fields.length === 1 ? [] : [field.title ?? name, field.description ?? ""];
    const question = [form.data.message, ...about].filter((text) => text !== "").join("\n");
    const options =
      field.enum ??
      field.oneOf?.map((option) => option.title ?? option.const) ??
      (field.type === "boolean" ? ["yes", "no"] : null);
    // The same question of a later attempt finds the answer that was given.
    const id = `q_acp_${createHash("sha256").update(`${context.spec.taskId}\0${name}\0${question}`).digest("hex").slice(0, 32)}`;
    await context.checkpoint("acp", "always");
    content[name] = valueOf(field, await context.ask(id, question, options));
  }
  return { action: "accept", content };
}

function valueOf(field: Field, text: string): string | number | boolean {
  if (field.type === "boolean") return /^(y|yes|true|1)$/i.test(text.trim());
  if (field.type === "number" || field.type === "integer") {
    const number = Number(text);
    return Number.isFinite(number) && text.trim() !== "" ? number : text;
  }
  return field.oneOf?.find(({ const: value, title }) => (title ?? value) === text)?.const ?? text;
}
