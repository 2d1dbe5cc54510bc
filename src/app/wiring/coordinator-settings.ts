/** The settings of the coordinator, as the configuration and the machine have them. */
import { readFileSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { mergePrices, PRICES, priceTableSchema, type PriceTable } from "../../broker/model/price-table.ts";
import { DEFAULT_SETTINGS } from "../../coordinator/coordinator.ts";
import { errorMessage, SlipwayError } from "../../core/error.ts";
import { DEFAULT_POLICY, MODEL_AGENTS, type MaxLimits } from "../../core/task.ts";
import type { Config } from "../config.ts";
import { toWorkspaceRules } from "../settings/bound-settings.ts";

const DAY_MS = 24 * 3_600_000;

/** @param windows of models, as the gateway learns them. */
export function readCoordinatorSettings(config: Config, windows: ReadonlyMap<string, number>) {
  const prices = readPrices(config);
  return {
    ...DEFAULT_SETTINGS,
    trustedHosts: config.trustedRepoHosts,
    publicUrl: config.publicUrl,
    pullRequest: config.pullRequest,
    images: config.sandbox === "docker" ? config.images : null,
    agents: listAgents(config),
    programs: config.programs,
    egress: config.egress,
    setupEgress: config.setupEgress,
    egressMb: config.egressMb,
    model: config.model,
    models: config.anthropicApiKey === null ? [] : config.models,
    ...(config.gitAuthor === null ? {} : { gitAuthor: config.gitAuthor }),
    signsCommits: config.signingKeyFile !== null,
    knownModels: Object.keys(prices.models),
    prices: prices.models,
    windows,
    ...(config.compactAt === null ? {} : { compactAt: config.compactAt }),
    ...(config.fallbackModel === null ? {} : { fallbackModel: config.fallbackModel }),
    ...(config.reviewModel === null ? {} : { review: { model: config.reviewModel, mode: config.review } }),
    policy: { ...DEFAULT_POLICY, ...config.policy },
    maxConcurrent: config.maxConcurrent,
    userLimit: config.userLimit,
    quotas: config.quotas,
    userDayUsd: config.userDayUsd,
    threadUsd: config.threadUsd,
    dayUsd: config.dayUsd,
    tasksExpireDays: config.tasksExpireDays,
    retentionMs: config.retentionDays * DAY_MS,
    mirrorMs: config.mirrorDays * DAY_MS,
    maxLimits: getMaxLimits(config),
    workspaces: toWorkspaceRules(config),
  };
}

/** @throws SlipwayError config_invalid when the operator's table cannot be used. */
export function readPrices({ pricesFile }: Config): PriceTable {
  if (pricesFile === null) return PRICES;
  try {
    return mergePrices(priceTableSchema.parse(JSON.parse(readFileSync(pricesFile, "utf8"))));
  } catch (error) {
    throw new SlipwayError(
      "config_invalid",
      `SLIPWAY_PRICES names ${pricesFile}, which is not a valid price table: ${errorMessage(error).slice(0, 300)}`,
    );
  }
}

/** The most that a task may ask for. */
export function getMaxLimits({ maxMemoryMb, maxCpus, maxDiskMb }: Config): MaxLimits {
  const memoryMb = maxMemoryMb ?? Math.max(64, Math.min(65_536, Math.floor(totalmem() / 2 ** 20 / 2)));
  return { memoryMb, cpus: maxCpus ?? availableParallelism(), diskMb: maxDiskMb };
}

/** Agents that this server can run, the default first. */
function listAgents({
  agent,
  anthropicApiKey,
  programs,
}: Pick<Config, "agent" | "anthropicApiKey" | "programs">): string[] {
  const all = [...(anthropicApiKey === null ? [] : MODEL_AGENTS), ...Object.keys(programs), "scripted"];
  return [agent, ...all.filter((name) => name !== agent)];
}

/**
 * @throws SlipwayError config_invalid when the default agent is not one that this server offers.
 */
export function checkAgent({ agent, ...config }: Config): void {
  const all = listAgents({ ...config, agent: "scripted" });
  if (!all.includes(agent))
    throw new SlipwayError(
      "config_invalid",
      `SLIPWAY_AGENT names "${agent}", but this server offers: ${all.join(", ")}.`,
    );
}
