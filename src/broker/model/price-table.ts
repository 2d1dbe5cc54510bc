/**
 * The prices of models: the built-in table, its schema, and an operator's table on top of it.
 */
import { z } from "zod";

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
const modelsSchema = z.record(z.string().min(1), z.array(bandSchema).min(1));

export const priceTableSchema = z.strictObject({
  /** The day the prices were read. */
  asOf: z.iso.date(),
  /**
   * Model name -> bands in ascending order of size. A longer name, such as one with a date, is the
   * same model unless it goes on with another version number; the longest match applies.
   */
  models: modelsSchema,
  /** Prices of requests with `speed: "fast"`; a model that is not listed cannot be asked for it. */
  fast: modelsSchema.optional(),
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

/** The usual multiples of the input price: 1.25, 2, 0.1. */
const usual = (input: number, output: number): PriceBand => band(input, output, input * 1.25, input * 2, input / 10);
const OPUS_4 = [usual(5, 25)];
const MYTHOS_5_1 = [band(10, 50, 12.5, 20, 0.25)];
const MYTHOS_5_2 = [band(8, 40, 10, 16, 0.2)];

/**
 * The vendor's list prices. Within a family the newest model stands first: an alias such as `opus`
 * is the first one that the installation offers.
 */
export const PRICES: PriceTable = {
  asOf: "2026-11-28",
  models: {
    "claude-opus-5-5": [band(4, 20, 5, 8, 0.2)],
    "claude-opus-5": [usual(5, 25)],
    "claude-opus-4-8": OPUS_4,
    "claude-opus-4-7": OPUS_4,
    "claude-opus-4-6": OPUS_4,
    "claude-opus-4-5": OPUS_4,
    "claude-sonnet-5-5": [band(2, 10, 2.5, 4, 0.1)],
    "claude-sonnet-5": [usual(2, 10)],
    "claude-sonnet-4-6": [usual(3, 15)],
    "claude-sonnet-4-5": [{ upToPromptTokens: 200_000, ...usual(3, 15) }, usual(6, 22.5)],
    // The cache prices of these bands are assumed to be the usual multiples.
    "claude-haiku-5-5": [{ upToPromptTokens: 100_000, ...usual(0.1, 0.5) }, usual(0.5, 2.5)],
    "claude-haiku-4-5": [usual(1, 5)],
    "claude-fable-5-2": MYTHOS_5_2,
    "claude-fable-5-1": MYTHOS_5_1,
    "claude-fable-5": [usual(10, 50)],
    "claude-mythos-5-2": MYTHOS_5_2,
    "claude-mythos-5-1": MYTHOS_5_1,
    "claude-mythos-5": [usual(10, 50)],
    "claude-mythos-preview": [usual(25, 125)],
  },
  fast: {
    "claude-opus-5-5": [band(8, 40, 10, 16, 0.4)],
    "claude-opus-5": [usual(10, 50)],
    "claude-opus-4-8": [usual(10, 50)],
    "claude-fable-5-2": [band(16, 80, 20, 32, 0.4)],
  },
};

/** An operator's prices replace the built-in ones of the same names; the others stay. */
export function mergePrices(operator: PriceTable): PriceTable {
  return {
    asOf: operator.asOf,
    models: { ...PRICES.models, ...operator.models },
    fast: { ...PRICES.fast, ...operator.fast },
  };
}
