/**
 * The headers and the query that go on to the provider. A header of the API that changes what is
 * done or who pays is refused by its name, as is a beta that is not listed: a beta is forwarded
 * together with its fields, or the request is refused.
 */
import type { IncomingHttpHeaders } from "node:http";
import { matchesPattern } from "../../../core/values/name-pattern.ts";
import { InvalidModelRequest } from "./policy.ts";

const DEFAULT_VERSION = "2026-10-21";

/** Headers that only identify the client. */
const ABOUT_THE_CLIENT = /^(?:user-agent|x-app|x-stainless-.*|x-claude-code-.*)$/;
const PERMITTED = new Set(["anthropic-version", "anthropic-beta", "anthropic-dangerous-direct-browser-access"]);
const QUERY: ReadonlySet<string> = new Set(["beta", "limit", "after_id", "before_id"]);

/**
 * The headers of the worker's request that go on.
 * @param betas permitted names; a trailing `*` permits a prefix.
 * @throws InvalidModelRequest
 */
export function selectHeaders(incoming: IncomingHttpHeaders, betas: readonly string[]): Record<string, string> {
  const selected: Record<string, string> = { "anthropic-version": DEFAULT_VERSION };
  for (const [name, value] of Object.entries(incoming)) {
    const isOfApi = name.startsWith("anthropic-");
    if (isOfApi && !PERMITTED.has(name))
      throw new InvalidModelRequest(`The gateway does not permit the header "${name}".`);
    if (isOfApi || ABOUT_THE_CLIENT.test(name)) selected[name] = String(value);
  }
  const refused = (selected["anthropic-beta"] ?? "")
    .split(",")
    .map((beta) => beta.trim())
    .find((beta) => beta !== "" && !matchesPattern(betas, beta));
  if (refused !== undefined)
    throw new InvalidModelRequest(
      `The gateway does not permit the beta "${refused.slice(0, 100)}". An operator permits it with SLIPWAY_MODEL_BETAS.`,
    );
  return selected;
}

/** @throws InvalidModelRequest */
export function checkQuery(path: string): void {
  const [, query = ""] = path.split("?", 2);
  const unknown = [...new URLSearchParams(query).keys()].find((name) => !QUERY.has(name));
  if (unknown !== undefined)
    throw new InvalidModelRequest(`The gateway does not permit the query parameter "${unknown.slice(0, 100)}".`);
}
