/**
 * SubmitRequest -> TaskSpec: fills in defaults and checks against what this installation offers.
 */
import type { AttachmentLimits } from "../../../core/ports/files/attachments.ts";
import { MAX_ATTACHMENTS } from "../../../core/values/attachment.ts";
import { findModel, findNearest, resolveAlias } from "../../../core/values/model-name.ts";
import { matchesPattern } from "../../../core/values/name-pattern.ts";
import { SlipwayError } from "../../../core/error.ts";
import { formatGitIdentity, SLIPWAY, type GitIdentity } from "../../../core/values/git-identity.ts";
import { isImageAllowed, OWN_IMAGE, parseImageReference } from "../../../core/values/image-reference.ts";
import { parseBranch, parseRepositoryUrl } from "../../../core/values/repository-url.ts";
import {
  EFFORTS,
  MODEL_AGENTS,
  type Budget,
  type Egress,
  type Limits,
  type MaxLimits,
  type Policy,
  type PullRequestMode,
  type TaskSpec,
} from "../../../core/task.ts";
import type { Capabilities } from "../../../core/protocol/config.ts";
import { TEXT_LIMIT } from "../../../core/event.ts";
import { BODY_LIMIT, MOST_ATTEMPTS, PROMPT_LIMIT, type SubmitRequest } from "../../../core/protocol/rest.ts";
import type { Forge, PullRequestOptions } from "../../../core/ports/repositories.ts";

/** US dollars per million tokens, for prompts up to a size. */
export interface PriceOfTokens {
  readonly upToPromptTokens?: number | undefined;
  readonly input: number;
  readonly output: number;
  readonly cacheWrite5m: number;
  readonly cacheRead: number;
}

export interface ServerOptions extends Pick<PullRequestOptions, "pullRequest"> {
  readonly forges: readonly Forge[];
  /** Author of commits: an identity, or the person who asked for the work; absent = Slipway. */
  readonly gitAuthor?: GitIdentity | "person";
  /** True = the server signs the commits that it pushes. */
  readonly signsCommits?: boolean;
  /** The first is the default. */
  readonly agents: readonly string[];
  /** Default for tasks whose agent uses a model. */
  readonly model: string | null;
  /**
   * Models that tasks may use: names, or prefixes followed by `*`; none = no agent has a model.
   */
  readonly models: readonly string[];
  /**
   * Names of the models that have a price, within a family the newest first: others are refused.
   * Absent = any.
   */
  readonly knownModels?: readonly string[];
  /** Prices by model; absent = none are known. */
  readonly prices?: Readonly<Record<string, readonly PriceOfTokens[]>>;
  /** The most tokens of a request by model, as they become known; absent = none are known. */
  readonly windows?: ReadonlyMap<string, number>;
  /** Reviews changes; absent = none does. `always`: also for tasks that do not ask for it. */
  readonly review?: { readonly model: string; readonly mode: "on_request" | "always" };
  /** Egress policies that the sandbox can enforce; the first is the default. */
  readonly egress: readonly [Egress, ...Egress[]];
  /** `host[:port]` that may be reached by plain http or at a private address. */
  readonly trustedHosts: readonly string[];
  /** Largest limits of one task. */
  readonly maxLimits: MaxLimits;
  /** Images that may be chosen; null = the sandbox has no images. */
  readonly images: readonly string[] | null;
  /** The thread's budget of submissions that name none, US dollars; null or absent = no limit. */
  readonly threadUsd?: number | null;
  /** Settled tasks that are older are deleted; null or absent = none are. */
  readonly tasksExpireDays?: number | null;
}

const MAX_ATTEMPTS = 3;

export function describeCapabilities(
  options: ServerOptions & { readonly policy: Policy },
  attachments: AttachmentLimits | null,
): Capabilities {
  const { agents, model, models, egress, review, images, maxLimits, policy, ...rest } = options;
  const forges = rest.forges.map(({ name, host }) => ({ name, host }));
  return {
    agents: [...agents],
    model,
    models: [...models],
    reviewModel: review?.model ?? null,
    efforts: [...EFFORTS],
    egress: [...egress],
    pullRequests: { default: rest.pullRequest ?? "none", forges },
    commits: {
      author: rest.gitAuthor === "person" ? null : formatGitIdentity(rest.gitAuthor ?? SLIPWAY),
      signed: rest.signsCommits ?? false,
    },
    attachments: attachments && { ...attachments, count: MAX_ATTACHMENTS },
    images: images && [...images],
    tasksExpireDays: rest.tasksExpireDays ?? null,
    prices: findPrices(options),
    windows: Object.fromEntries(rest.windows ?? []),
    defaults: { maxAttempts: MAX_ATTEMPTS, minutes: policy.wallMs / 60_000, threadUsd: rest.threadUsd ?? null },
    limits: {
      ...maxLimits,
      maxAttempts: MOST_ATTEMPTS,
      promptLength: PROMPT_LIMIT,
      messageLength: TEXT_LIMIT,
      bodyBytes: BODY_LIMIT,
    },
  };
}

/** The prices of the models that tasks may use. */
function findPrices({ models, prices = {} }: ServerOptions): Capabilities["prices"] {
  const offered = Object.entries(prices).filter(([name]) => matchesPattern(models, name));
  const bands = offered.map(([name, list]) => {
    const shown = list.map(({ upToPromptTokens = null, input, output, cacheWrite5m, cacheRead }) => {
      return { upToPromptTokens, input, output, cacheWrite: cacheWrite5m, cacheRead };
    });
    return [name, shown] as const;
  });
  return Object.fromEntries(bands);
}

export type AgentOptions = Pick<ServerOptions, "agents" | "model" | "models" | "knownModels">;
type AgentRequest = Pick<SubmitRequest, "agent" | "model" | "effort">;
type AgentChoice = Pick<TaskSpec, "agent" | "model" | "effort">;

/**
 * The agent of a later task of a thread, and its model: what is not asked for stays. Another agent
 * begins with the installation's model. @throws SlipwayError agent_unavailable, model_unavailable.
 */
export function resolveOtherAgent(
  options: AgentOptions,
  before: TaskSpec,
  request: AgentRequest,
): Partial<AgentChoice & Pick<TaskSpec, "script">> {
  if (request.agent === undefined && request.model === undefined && request.effort === undefined) return {};
  const agent = request.agent ?? before.agent;
  const model = request.model ?? (agent === before.agent ? before.model : null);
  const effort = request.effort ?? before.effort;
  const asked = { agent, ...(model === null ? {} : { model }), ...(effort === null ? {} : { effort }) };
  return { ...resolveAgent(options, asked), script: agent === before.agent ? before.script : null };
}

function resolveAgent(options: AgentOptions, request: AgentRequest & Pick<SubmitRequest, "script">): AgentChoice {
  const { agents, models } = options;
  const agent = request.agent ?? agents[0] ?? "scripted";
  const needsKey = (MODEL_AGENTS as readonly string[]).includes(agent);
  // An Agent Client Protocol program uses the gateway if there is one.
  const hasModel = needsKey || (agent !== "scripted" && models.length > 0);
  if (!agents.includes(agent)) {
    const key = needsKey ? ` The agent "${agent}" needs a model key: an operator sets ANTHROPIC_API_KEY.` : "";
    throw new SlipwayError("agent_unavailable", `This server offers: ${agents.join(", ")}.${key}`);
  }
  if (agent === "scripted" && request.model !== undefined && request.model !== null)
    throw new SlipwayError("model_unavailable", 'The agent "scripted" uses no model: leave the model out.');
  const wanted = request.model ?? (hasModel ? options.model : null);
  const model = wanted !== null && hasModel ? resolveModel(options, wanted) : wanted;
  if (request.script !== undefined && agent !== "scripted") {
    throw new SlipwayError("invalid_request", 'A script needs agent "scripted".', {
      errors: [{ path: "script", message: 'needs agent "scripted"' }],
    });
  }
  return { agent, model, effort: request.effort ?? null };
}

/** The model by its name or alias. @throws SlipwayError model_unavailable. */
function resolveModel({ models, knownModels: known }: AgentOptions, wanted: string): string {
  const model = resolveAlias(known ?? [], models, wanted) ?? wanted;
  const isKnown = known === undefined || findModel(known, model) !== null;
  if (matchesPattern(models, model) && isKnown) return model;
  const offered = (known ?? []).filter((name) => matchesPattern(models, name));
  const nearest = findNearest(offered, model);
  const hint = nearest === null ? "" : ` Did you mean "${nearest}"?`;
  throw new SlipwayError(
    "model_unavailable",
    matchesPattern(models, model)
      ? `There is no model "${model}" with a price on this server.${hint} An operator adds a price with SLIPWAY_PRICES.`
      : `This server offers: ${models.join(", ")}.${hint} An operator allows more with SLIPWAY_MODELS.`,
  );
}

/**
 * @param wanted absent = as the installation is set. @throws SlipwayError model_unavailable,
 * agent_unavailable.
 */
export function resolveReview(
  { review }: Pick<ServerOptions, "review">,
  agent: string,
  wanted: boolean | undefined,
): Pick<TaskSpec, "reviewModel"> {
  const canReview = (MODEL_AGENTS as readonly string[]).includes(agent);
  if (wanted === false || (wanted === undefined && (review?.mode !== "always" || !canReview))) return {};
  if (!canReview)
    throw new SlipwayError("agent_unavailable", `A review needs one of these agents: ${MODEL_AGENTS.join(", ")}.`);
  if (review === undefined)
    throw new SlipwayError("model_unavailable", "No model reviews here: an operator sets SLIPWAY_REVIEW_MODEL.");
  return { reviewModel: review.model };
}

/** The tasks of the thread to come take it over, as they do what a submission names. */
function resolveBudget({ threadUsd = null }: ServerOptions, { budget = {} }: SubmitRequest): Budget {
  return threadUsd === null ? budget : { threadUsd, ...budget };
}

function resolveEgress({ egress: offered }: ServerOptions, request: SubmitRequest): Egress {
  const egress = request.egress ?? offered[0];
  if (offered.includes(egress)) return egress;
  throw new SlipwayError(
    "egress_unavailable",
    `This server offers: ${offered.join(", ")}. An operator enables "open" with SLIPWAY_EGRESS_OPEN=1.`,
  );
}

function resolveImage({ images }: ServerOptions, { image }: SubmitRequest): string | null {
  if (image === undefined || image === OWN_IMAGE) return image ?? null;
  const name = parseImageReference(image);
  if (images === null)
    throw new SlipwayError("image_not_allowed", "This server's sandbox has no images. Leave `image` out.");
  if (isImageAllowed(name, images)) return name;
  const offer = images.length === 0 ? "none but its own" : images.join(", ");
  throw new SlipwayError("image_not_allowed", `${name} is not listed in SLIPWAY_IMAGES. This server allows: ${offer}.`);
}

/**
 * @param wanted null = what this server does by default, where it can.
 * @throws SlipwayError forge_unavailable, invalid_branch.
 */
export function resolvePullRequest(
  { forges, pullRequest: usual = "none" }: Pick<ServerOptions, "forges" | "pullRequest">,
  wanted: PullRequestMode | null,
  { repo, base, branch }: Pick<TaskSpec, "repo" | "base" | "branch">,
): PullRequestMode {
  if ((wanted ?? usual) === "none") return "none";
  const isKnown = forges.some((forge) => forge.serves(repo));
  if (wanted === null) return isKnown && branch !== base ? usual : "none";
  if (branch === base)
    throw new SlipwayError("invalid_branch", "A pull request needs a branch of its own: name another than the base.");
  if (isKnown) return wanted;
  const known = forges.map(({ name, host }) => `${host} (${name})`).join(", ") || "no forge";
  throw new SlipwayError(
    "forge_unavailable",
    `This server opens pull requests on ${known}, not on ${new URL(repo).host}. An operator adds a forge with SLIPWAY_FORGES. Or submit with pullRequest "none".`,
  );
}

const LIMIT_SETTINGS = {
  memoryMb: "SLIPWAY_MAX_MEMORY_MB",
  cpus: "SLIPWAY_MAX_CPUS",
  diskMb: "SLIPWAY_MAX_DISK_MB",
} as const;

/** @throws SlipwayError limits_unavailable. */
export function checkLimits(limits: Limits, max: MaxLimits): Limits {
  const errors = (["memoryMb", "cpus", "diskMb"] as const).flatMap((name) =>
    (limits[name] ?? 0) <= max[name]
      ? []
      : [{ path: `limits.${name}`, message: `at most ${max[name]} (${LIMIT_SETTINGS[name]})` }],
  );
  if (errors.length === 0) return limits;
  throw new SlipwayError("limits_unavailable", "This server allows less: see errors. An operator sets the maxima.", {
    errors,
  });
}

/** The branch of a task that begins a thread. */
export const nameBranch = (taskId: string): string => `slipway/${taskId.slice(-12).toLowerCase()}`;

/** The thread that a task begins. */
export const nameThread = (taskId: string): string => taskId.replace("task_", "thread_");

/** @throws SlipwayError with the codes of TaskService.submit. */
export function createTaskSpec(options: ServerOptions, request: SubmitRequest, taskId: string): TaskSpec {
  const { url } = parseRepositoryUrl(request.repo, { trustedHosts: options.trustedHosts });
  const base = request.base === undefined ? null : parseBranch(request.base);
  const branch = request.branch === undefined ? nameBranch(taskId) : parseBranch(request.branch);
  const chosen = { ...resolveAgent(options, request), egress: resolveEgress(options, request) };
  return {
    repo: url,
    base,
    branch,
    prompt: request.prompt,
    title: request.title ?? deriveTitle(request.prompt),
    ...chosen,
    script: request.script ?? null,
    budget: resolveBudget(options, request),
    limits: checkLimits(request.limits ?? {}, options.maxLimits),
    pullRequest: resolvePullRequest(options, request.pullRequest ?? null, { repo: url, base, branch }),
    image: resolveImage(options, request),
    verify: request.verify ?? [],
    priority: request.priority ?? 0,
    maxAttempts: request.maxAttempts ?? MAX_ATTEMPTS,
    from: "start",
    expectSha: null,
    ...(request.checkPush === undefined ? {} : { checkPush: request.checkPush }),
    ...resolveReview(options, chosen.agent, request.review),
  };
}

export function deriveTitle(prompt: string): string {
  const first = prompt.trim().split("\n", 1)[0] ?? "";
  // oxfmt-ignore
  const clean = [...first].filter((char) => char >= " " && char !== "\u007f").join("").trim();
  return clean.length > 80 ? `${clean.slice(0, 79)}…` : clean || "Untitled";
}
