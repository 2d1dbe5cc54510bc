/** What the models of the fake provider support, as the provider's list of models reports it. */
import type { FakeRequest } from "./strict.ts";

const WINDOW = 1_000_000;
const MAX_OUTPUT = 128_000;
const OLD_WINDOW = 200_000;
const OLD_MAX_OUTPUT = 64_000;
export const LISTED_MODELS = ["claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5"];

const LEVELS = ["low", "medium", "high", "xhigh", "max"] as const;
type Level = (typeof LEVELS)[number];

interface Features {
  /** Types of `thinking`. */
  readonly thinking: readonly string[];
  /** Empty: the model has no effort parameter. */
  readonly efforts: readonly Level[];
  readonly isOld: boolean;
}

const CURRENT: Features = { thinking: ["adaptive", "between_tools"], efforts: LEVELS, isOld: false };
/** Models before the current generation, by the beginning of their names. */
const OLDER: Readonly<Record<string, Features>> = {
  "claude-haiku-4-5": { thinking: ["enabled", "disabled"], efforts: [], isOld: true },
  "claude-sonnet-4-5": { thinking: ["enabled", "disabled"], efforts: [], isOld: true },
  "claude-opus-4-5": { thinking: ["enabled", "disabled"], efforts: ["low", "medium", "high"], isOld: true },
  "claude-sonnet-4-6": {
    thinking: ["adaptive", "enabled", "disabled"],
    efforts: ["low", "medium", "high", "max"],
    isOld: true,
  },
};

const getFeatures = (model: string): Features =>
  Object.entries(OLDER).find(([name]) => model.startsWith(name))?.[1] ?? CURRENT;

export const getWindow = (model: string): number => (getFeatures(model).isOld ? OLD_WINDOW : WINDOW);

/** The API's message for a setting that the model lacks; null for a request that it serves. */
export function findUnsupported(request: FakeRequest): string | null {
  const { thinking, efforts, isOld } = getFeatures(request.model);
  const type = request.thinking?.type;
  if (type === "adaptive" && !thinking.includes(type)) return "adaptive thinking is not supported on this model";
  if (type !== undefined && !thinking.includes(type)) return `thinking.type: ${type} is not supported by this model`;
  const effort = request.output_config?.effort ?? null;
  if (effort !== null && efforts.length === 0) return "This model does not support the effort parameter.";
  if (effort !== null && !efforts.some((level) => level === effort))
    return `output_config.effort: ${effort} is not supported by this model`;
  const most = isOld ? OLD_MAX_OUTPUT : MAX_OUTPUT;
  if (request.max_tokens > most)
    return `max_tokens: ${request.max_tokens} > ${most}, which is the maximum allowed number of output tokens for ${request.model}`;
  return null;
}

export function describeModel(id: string): object {
  const { thinking, efforts, isOld } = getFeatures(id);
  const supports = (supported: boolean): object => ({ supported });
  return {
    type: "model",
    id,
    display_name: id,
    created_at: "2026-10-21T00:00:00Z",
    max_input_tokens: getWindow(id),
    max_tokens: isOld ? OLD_MAX_OUTPUT : MAX_OUTPUT,
    capabilities: {
      context_management: { supported: true, clear_tool_uses_20250919: supports(true) },
      effort: {
        supported: efforts.length > 0,
        ...Object.fromEntries(LEVELS.map((level) => [level, supports(efforts.includes(level))])),
      },
      thinking: {
        supported: true,
        types: { adaptive: supports(thinking.includes("adaptive")), enabled: supports(thinking.includes("enabled")) },
      },
    },
  };
}
