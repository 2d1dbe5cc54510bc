/**
 * What model requests cost. Data with a date, not code: prices change, and a request is priced when
 * it ends, by its own size. Source: the list prices that the vendor's own tools compute with, read
 * on the date below. An operator may give a newer table.
 */
import { z } from "zod";
import type { TokenUsage } from "./usage.ts";

const bandSchema = z.strictObject({
  /**
   * The band holds for prompts of at most so many tokens (input, cache reads and cache writes
   * together); absent = any size.
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
  /** The day on which the prices were read. */
  asOf: z.iso.date(),
  /**
   * Name of a model, or the beginning of it -> bands, smallest first. The longest name that fits
   * counts.
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
    // The cache prices of the two bands are not published: the usual multiples of input (1.25, 2,
    // 0.1) are the cautious reading.
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
   * False when the table does not know the model: then the dearest prices of the table were used,
   * so that no budget is overspent unseen.
   */
  readonly known: boolean;
}

const MILLION = 1_000_000;

/** The longest name in the table that `model` begins with, at a boundary between words. */
function entryOf(table: PriceTable, model: string): readonly PriceBand[] | null {
  const fits = Object.keys(table.models).filter((name) => model === name || model.startsWith(`${name}-`));
  const longest = fits.toSorted((a, b) => b.length - a.length)[0];
  return longest === undefined ? null : (table.models[longest] ?? null);
}

function dearest(table: PriceTable): PriceBand {
  const all = Object.values(table.models).flat();
  const most = (key: keyof Omit<PriceBand, "upToPromptTokens">): number => Math.max(0, ...all.map((one) => one[key]));
  return band(most("input"), most("output"), most("cacheWrite5m"), most("cacheWrite1h"), most("cacheRead"));
}

/** What one request costs. Pure; the same usage always costs the same by the same table. */
export function computePrice(model: string, usage: TokenUsage, table: PriceTable = PRICES): Price {
  const bands = entryOf(table, model);
  const prompt = usage.inputTokens + usage.cacheReadTokens + usage.cacheWrite5mTokens + usage.cacheWrite1hTokens;
  const fitting =
    bands?.find((one) => one.upToPromptTokens === undefined || prompt <= one.upToPromptTokens) ?? bands?.at(-1);
  const price = fitting ?? dearest(table);
  const total =
    usage.inputTokens * price.input +
    usage.outputTokens * price.output +
    usage.cacheWrite5mTokens * price.cacheWrite5m +
    usage.cacheWrite1hTokens * price.cacheWrite1h +
    usage.cacheReadTokens * price.cacheRead;
  return { usd: total / MILLION, known: fitting !== undefined };
}
