/** The settings of agents and models: names, flags, defaults and help. */
import { QUOTA_OPTIONS } from "./quota-options.ts";
import { ANTHROPIC, DEFAULTS, type Setting } from "./defaults.ts";

export const MODEL_SETTINGS = {
  agent: {
    env: "SLIPWAY_AGENT",
    flag: "agent",
    argument: "name",
    help: "agent of tasks that name none (anthropic with a key, else scripted)",
  },
  acpCommands: {
    env: "SLIPWAY_ACP_COMMANDS",
    flag: "acp-commands",
    argument: "list",
    help: "agent programs in the worker's image that speak the Agent Client Protocol: name=command, separated by ;",
  },
  agentsFile: {
    env: "SLIPWAY_AGENTS_FILE",
    flag: "agents-file",
    argument: "file",
    help: "JSON file with agent programs by name, those that only have a command line included (docs/agents.md)",
  },
  anthropicApiKey: {
    env: "ANTHROPIC_API_KEY",
    flag: "anthropic-api-key",
    argument: "key",
    help: "model key; better in the environment",
    secret: true,
  },
  anthropicBaseUrl: {
    env: "ANTHROPIC_BASE_URL",
    flag: "anthropic-base-url",
    argument: "url",
    help: `model endpoint (${ANTHROPIC})`,
  },
  model: {
    env: "SLIPWAY_MODEL",
    flag: "model",
    argument: "name",
    help: `model of tasks that name none (${DEFAULTS.model}, or the first in the list)`,
  },
  models: {
    env: "SLIPWAY_MODELS",
    flag: "models",
    argument: "list",
    help: "models that tasks may use; name or beginning* (claude-*)",
  },
  fallbackModel: {
    env: "SLIPWAY_FALLBACK_MODEL",
    flag: "fallback-model",
    argument: "name",
    help: "model that continues a task when its own declined (none: the task fails)",
  },
  reviewModel: {
    env: "SLIPWAY_REVIEW_MODEL",
    flag: "review-model",
    argument: "name",
    help: `model that reviews changes of the built-in agent (${DEFAULTS.reviewModel}, where it may be used)`,
  },
  review: {
    env: "SLIPWAY_REVIEW",
    flag: "review",
    argument: "when",
    help: "on_request or always (on_request)",
  },
  compactAt: {
    env: "SLIPWAY_COMPACT_AT",
    flag: "compact-at",
    argument: "tokens",
    help: "size at which the built-in agent summarizes its conversation (60% of the window, at most 150000)",
  },
  modelBetas: {
    env: "SLIPWAY_MODEL_BETAS",
    flag: "model-betas",
    argument: "list",
    help: "further betas of the model API that programs may ask for; name or beginning* (none)",
  },
  userDayUsd: {
    env: "SLIPWAY_USER_DAY_USD",
    flag: "user-day-usd",
    argument: "amount",
    help: "model budget of one user per day (no limit)",
  },
  threadUsd: {
    env: "SLIPWAY_THREAD_USD",
    flag: "thread-usd",
    argument: "amount",
    help: "model budget of a task with its retries and follow-ups, where its submission names none (no limit)",
  },
  ...QUOTA_OPTIONS,
  dayUsd: {
    env: "SLIPWAY_DAY_USD",
    flag: "day-usd",
    argument: "amount",
    help: "model budget of all users per day (no limit)",
  },
  pricesFile: {
    env: "SLIPWAY_PRICES",
    flag: "prices",
    argument: "file",
    help: "JSON table of model prices (built in)",
  },
} as const satisfies Record<string, Setting>;
