/** The options of a new task, as its form has them: texts that are kept with the draft. */
import type { SubmitRequest } from "../../../../src/core/protocol/rest.ts";

export interface Options {
  readonly base?: string;
  readonly model?: string;
  readonly agent?: string;
  readonly effort?: string;
  readonly egress?: string;
  readonly usd?: string;
  readonly threadUsd?: string;
  readonly minutes?: string;
  readonly image?: string;
  readonly pullRequest?: string;
  readonly isReviewed?: boolean;
}

/** What a device keeps may be from another version. */
export function parseOptions(text: string): Options {
  try {
    const parsed: unknown = JSON.parse(text || "{}");
    return typeof parsed === "object" && parsed !== null ? parsed : {};
  } catch {
    return {};
  }
}

export function toRequest(repo: string, prompt: string, options: Options): SubmitRequest {
  const { base, model, agent, effort, egress, usd, threadUsd, minutes, image, pullRequest, isReviewed } = options;
  const budget = { ...toNumber("usd", usd), ...toNumber("threadUsd", threadUsd), ...toNumber("minutes", minutes) };
  return {
    repo: repo.trim(),
    prompt,
    ...given("base", base),
    ...given("agent", agent),
    ...given("model", model),
    ...given("image", image),
    ...given("effort", effort),
    ...given("egress", egress),
    ...given("pullRequest", pullRequest),
    ...(isReviewed === true ? { review: true } : {}),
    ...(Object.keys(budget).length === 0 ? {} : { budget }),
  } as SubmitRequest;
}

function given(name: string, value: string | undefined): Record<string, string> {
  return value === undefined || value.trim() === "" ? {} : { [name]: value.trim() };
}

function toNumber(name: string, value: string | undefined): Record<string, number> {
  const number = Number((value ?? "").replace(",", "."));
  return Number.isFinite(number) && number > 0 ? { [name]: number } : {};
}

/** The options that make this request. */
export function toOptions(body: SubmitRequest): Options {
  const { base, model, agent, effort, egress, image, pullRequest, review } = body;
  const { usd, threadUsd, minutes } = body.budget ?? {};
  const texts = { base, model, agent, effort, egress, image, pullRequest, usd, threadUsd, minutes };
  const given = Object.entries(texts).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]]));
  return { ...Object.fromEntries(given), ...(review === true ? { isReviewed: true } : {}) };
}
