/** What a request costs. It is priced when it ends, by its own prompt size. */
import { findModel } from "../../core/values/model-name.ts";
import { PRICES, type PriceBand, type PriceTable } from "./price-table.ts";
import type { RequestCeiling } from "./request/ceiling.ts";
import { countPrompt, NO_TOKENS, type TokenUsage } from "./usage.ts";

const MILLION = 1_000_000;
/** Where inference in a chosen region costs more; requests cannot choose one, a workspace can. */
const REGION_FACTOR = 1.1;

/** What changes the price of a request beside its tokens. */
export interface PriceMode {
  readonly fast?: boolean;
  /** Where the provider did the work; absent = not known yet, null = it did not say. */
  readonly region?: string | null;
}

function findBands(table: PriceTable, model: string, fast: boolean): readonly PriceBand[] | null {
  const models = (fast ? table.fast : table.models) ?? {};
  const name = findModel(Object.keys(models), model);
  return name === null ? null : (models[name] ?? null);
}

export const isPriced = (model: string, { fast = false }: PriceMode, table: PriceTable): boolean =>
  findBands(table, model, fast) !== null;

const factorOf = ({ region = null }: PriceMode): number =>
  region === null || region === "global" || region === "not_available" ? 1 : REGION_FACTOR;

/**
 * The price of one request, US dollars. Pure.
 * @throws Error when the table has no price for the model: the gateway refuses such requests.
 */
export function computePrice(
  model: string,
  usage: TokenUsage,
  table: PriceTable = PRICES,
  mode: PriceMode = {},
): number {
  const bands = findBands(table, model, mode.fast ?? false);
  const prompt = countPrompt(usage);
  const price = bands?.find(({ upToPromptTokens: limit }) => limit === undefined || prompt <= limit) ?? bands?.at(-1);
  if (price === undefined) throw new Error(`the model ${model} has no price`);
  const total =
    usage.inputTokens * price.input +
    usage.outputTokens * price.output +
    usage.cacheWrite5mTokens * price.cacheWrite5m +
    usage.cacheWrite1hTokens * price.cacheWrite1h +
    usage.cacheReadTokens * price.cacheRead;
  return (total / MILLION) * factorOf(mode);
}

/** The most that a request can be billed, US dollars. Pure. */
export function computeCeilingPrice(model: string, ceiling: RequestCeiling, table: PriceTable = PRICES): number {
  const { inputTokens, hourTokens, outputTokens, cached, passes, fast } = ceiling;
  const inputs: TokenUsage[] = [{ ...NO_TOKENS, inputTokens }];
  if (cached) {
    const rest = inputTokens - hourTokens;
    const hour = { ...NO_TOKENS, cacheWrite1hTokens: hourTokens };
    inputs.push({ ...NO_TOKENS, cacheWrite5mTokens: inputTokens });
    inputs.push({ ...hour, cacheWrite5mTokens: rest }, { ...hour, inputTokens: rest });
  }
  const mode = { fast, region: "unknown" };
  return passes * Math.max(...inputs.map((input) => computePrice(model, { ...input, outputTokens }, table, mode)));
}
