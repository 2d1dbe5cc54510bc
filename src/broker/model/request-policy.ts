/**
 * Which model requests of a worker are forwarded to the provider. The worker is hostile: the
 * server's key must serve nothing but messages.
 *
 * Q1 What is sent is what was checked, unchanged: the parsed body is serialized again, without a
 *    field more or less. A request that is not permitted is refused with the name of its field,
 *    header or beta; nothing is removed silently.
 * Q2 A request must not make the provider fetch, run or store anything: fields, blocks, sources and
 *    tools are positive lists (request/content.ts), headers too (request/headers.ts).
 */
import { z } from "zod";
import { matchesPattern } from "../../core/values/name-pattern.ts";
import { computeCeiling, type RequestCeiling } from "./request/ceiling.ts";
import { checkContent, InvalidModelRequest } from "./request/content.ts";
import { BETAS } from "./request/headers.ts";

export interface RequestRules {
  /** Permitted models; an entry that ends in `*` permits every name with that prefix. */
  readonly models: readonly string[];
  /** Permitted values of `anthropic-beta`; a trailing `*` permits a prefix. */
  readonly betas: readonly string[];
  /** Larger values of `max_tokens` are refused. */
  readonly maxTokens: number;
}

export const DEFAULT_RULES: RequestRules = {
  models: ["claude-*"],
  betas: BETAS,
  maxTokens: 128_000,
};

export interface ModelRequest {
  readonly model: string;
  readonly stream: boolean;
  readonly body: string;
  readonly ceiling: RequestCeiling;
}

const requestSchema = z.looseObject({
  model: z.string().min(1).max(200),
  max_tokens: z.int().positive().optional(),
  stream: z.boolean().optional(),
  messages: z.array(z.unknown()).min(1),
});

/** @throws InvalidModelRequest */
export function checkRequest(value: unknown, rules: RequestRules): ModelRequest {
  const parsed = requestSchema.safeParse(value);
  if (!parsed.success) throw new InvalidModelRequest(describeIssue(parsed.error));
  const request = value as Readonly<Record<string, unknown>>;
  const { model, max_tokens: maxTokens = 0, stream = false } = parsed.data;
  checkContent(request);
  if (!matchesPattern(rules.models, model))
    throw new InvalidModelRequest(
      `The model "${model}" is not offered by this server. An operator permits it with SLIPWAY_MODELS.`,
    );
  if (maxTokens > rules.maxTokens)
    throw new InvalidModelRequest(`The gateway permits a "max_tokens" of at most ${rules.maxTokens}.`);
  const body = JSON.stringify(request);
  return { model, stream, body, ceiling: computeCeiling(request, body) };
}

function describeIssue({ issues }: z.ZodError): string {
  const path = issues[0]?.path.join(".") ?? "";
  return `The body is not a Messages API request${path === "" ? "" : `: "${path}" is not valid`}.`;
}
