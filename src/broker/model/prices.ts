/**
 * Prices of model requests. A request is priced when it ends, by its own prompt size. Source: the
 * vendor's list prices on the date of the table; an operator may supply a newer table.
 */
import { z } from "zod";
import type { RequestCeiling } from "./request/ceiling.ts";
import { countPrompt, NO_TOKENS, type TokenUsage } from "./usage.ts";

const bandSchema = z.strictObject({
  /**
   * Largest prompt of the band in tokens: input, cache reads and cache writes together. Absent =
   * unlimited.
   */
  upToPromptTokens: z.int().positive().optional(),
  /** US dollars per million tokens. */
  input: z.number().min(0),
  output: z.number().min(0),
  cacheWrite5m: z.number().min(0),
  cacheWrite1h: z.number().min(0),
  cacheRead: z.number().min(0),
});

export const priceTableSchema = z.strictObject({
  /** The day the prices were read. */
  asOf: z.iso.date(),
  /**
   * Model name, or a prefix of it that ends before a `-`, -> bands in ascending order of size. The
   * longest match applies.
   */
  models: z.record(z.string().min(1), z.array(bandSchema).min(1)),
});
export type PriceTable = z.infer<typeof priceTableSchema>;
export type PriceBand = z.infer<typeof bandSchema>;

const band = (
  input: number,
  output: number,
  cacheWrite5m: number,
  cacheWrite1h: number,
  cacheRead: number,
): PriceBand => ({
  input,
  output,
  cacheWrite5m,
  cacheWrite1h,
  cacheRead,
});

export const PRICES: PriceTable = {
  asOf: "2026-11-22",
  models: {
    "claude-opus-5-5": [band(4, 20, 5, 8, 0.2)],
    "claude-sonnet-5-5": [band(2, 10, 2.5, 4, 0.1)],
    "claude-fable-5-2": [band(8, 40, 10, 16, 0.2)],
    // The vendor publishes no cache prices for these bands: the usual multiples of the input price
    // (1.25, 2, 0.1) are assumed.
    "claude-haiku-5-5": [
      { upToPromptTokens: 100_000, ...band(0.1, 0.5, 0.125, 0.2, 0.01) },
      band(0.5, 2.5, 0.625, 1, 0.05),
    ],
    "claude-opus-5": [band(5, 25, 6.25, 10, 0.5)],
    "claude-sonnet-5": [band(2, 10, 2.5, 4, 0.2)],
    "claude-sonnet-4-6": [band(3, 15, 3.75, 6, 0.3)],
    "claude-haiku-4-5": [band(1, 5, 1.25, 2, 0.1)],
  },
};

export interface Price {
  /** US dollars. */
  readonly usd: number;
  /**
   * False when the table does not contain the model. The table's highest prices were applied then,
   * so that a budget is not overspent.
   */
  readonly known: boolean;
}

const MILLION = 1_000_000;

/** The longest name in the table that `model` begins with, at a boundary between words. */
function findBands(table: PriceTable, model: string): readonly PriceBand[] | null {
  const matches = Object.keys(table.models).filter((name) => model === name || model.startsWith(`${name}-`));
  const longest = matches.toSorted((a, b) => b.length - a.length)[0];
  return longest === undefined ? null : (table.models[longest] ?? null);
}

function getHighestPrices(table: PriceTable): PriceBand {
  const all = Object.values(table.models).flat();
  const max = (key: keyof Omit<PriceBand, "upToPromptTokens">): number =>
    Math.max(0, ...all.map((entry) => entry[key]));
  return band(max("input"), max("output"), max("cacheWrite5m"), max("cacheWrite1h"), max("cacheRead"));
}

/** The price of one request. Pure. */
export function computePrice(model: string, usage: TokenUsage, table: PriceTable = PRICES): Price {
  const bands = findBands(table, model);
  const prompt = countPrompt(usage);
  const match =
    bands?.find((entry) => entry.upToPromptTokens === undefined || prompt <= entry.upToPromptTokens) ?? bands?.at(-1);
  const price = match ?? getHighestPrices(table);
  const total =
    usage.inputTokens * price.input +
    usage.outputTokens * price.output +
    usage.cacheWrite5mTokens * price.cacheWrite5m +
    usage.cacheWrite1hTokens * price.cacheWrite1h +
    usage.cacheReadTokens * price.cacheRead;
  return { usd: total / MILLION, known: match !== undefined };
}

/** The most that a request can be billed, US dollars. Pure. */
export function computeCeilingPrice(model: string, ceiling: RequestCeiling, table: PriceTable = PRICES): number {
  const { inputTokens, outputTokens, cache, passes } = ceiling;
  const inputs: TokenUsage[] = [{ ...NO_TOKENS, inputTokens }];
  if (cache !== "none") inputs.push({ ...NO_TOKENS, cacheWrite5mTokens: inputTokens });
  if (cache === "1h") inputs.push({ ...NO_TOKENS, cacheWrite1hTokens: inputTokens });
  return passes * Math.max(...inputs.map((input) => computePrice(model, { ...input, outputTokens }, table).usd));
}
