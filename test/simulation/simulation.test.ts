/**
 * The real coordinator in simulated worlds. `npm run simulate` runs the same for as long as wanted,
 * and replays a finding.
 */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { SEED, sized } from "../support/random.ts";
import { createPlan, type Plan } from "./plan.ts";
import { run } from "./run.ts";

const FINDINGS = new URL("findings/", import.meta.url);
const SEARCH_MS = Number(process.env["SLIPWAY_SIMULATE_MS"] ?? sized(8_000, 45_000));
const SQLITE_MS = Number(process.env["SLIPWAY_SIMULATE_MS"] ?? sized(3_000, 10_000));

/** Runs one seed after the other until the time is over or a rule is broken. */
async function search(store: Plan["store"], forMs: number): Promise<number> {
  const endAt = performance.now() + forMs;
  for (let seed = SEED * 1_000; ; seed += 1) {
    const { findings } = await run(createPlan(seed, store));
    const replay = `npm run simulate -- --store ${store} --from ${seed} --count 1`;
    expect(findings, `replay and shrink it with: ${replay}`).toEqual([]);
    if (performance.now() > endAt) return seed + 1 - SEED * 1_000;
  }
}

describe("the simulator", () => {
  it("a seed gives one run: every event happens in the same order again, also on the SQLite store", async () => {
    for (const seed of [1, 2, 3]) {
      const first = await run(createPlan(seed));
      expect(first.steps).toBeGreaterThan(1_000);
      expect((await run(createPlan(seed))).digest).toBe(first.digest);
      expect((await run(createPlan(seed, "sqlite"))).digest).toBe(first.digest);
    }
  });

  it("a plan survives JSON, so that a file replays it", async () => {
    const plan = createPlan(4);
    const copy = JSON.parse(JSON.stringify(plan)) as Plan;
    expect((await run(copy)).digest).toBe((await run(plan)).digest);
  });
});

describe("the coordinator in simulated worlds", () => {
  it.each(readdirSync(FINDINGS, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".json")))(
    "[D2] [D5] [T5] [W4] [W5] [R5] keeps every rule in %s",
    async (file) => {
      const { plan } = JSON.parse(readFileSync(new URL(file, FINDINGS), "utf8")) as { plan: Plan };
      expect((await run(plan)).findings).toEqual([]);
    },
  );

  it(`[T1] [T5] [D1] [D4] [D7] keeps every rule under faults of all kinds (SLIPWAY_TEST_SEED=${SEED})`, async () => {
    expect(await search("memory", SEARCH_MS)).toBeGreaterThan(0);
  });

  it(`[T1] [R2] [D2] keeps every rule on the SQLite store (SLIPWAY_TEST_SEED=${SEED})`, async () => {
    expect(await search("sqlite", SQLITE_MS)).toBeGreaterThan(0);
  });
});
