/** `slipway doctor` on copies of a healthy data folder, each with one injury. */
import { rmSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runDoctor, type CheckResult } from "../../../src/app/checker/doctor.ts";
import { configFor, injure, makeHealthyFolder, type HealthyFolder } from "./healthy-folder.ts";
import { INJURIES } from "./injuries.ts";
import { sampled } from "../../support/random.ts";

let healthy: HealthyFolder;
beforeAll(async () => {
  healthy = await makeHealthyFolder();
});
afterAll(() => healthy.close());

const examine = (dir: string): Promise<CheckResult[]> => runDoctor({ config: configFor(healthy, dir) });
const broken = (results: readonly CheckResult[]): CheckResult[] => results.filter(({ ok }) => !ok);

it("[T7] [M4] [M5] [M6] a healthy folder has no finding", async () => {
  expect(broken(await examine(healthy.dir))).toEqual([]);
});

describe("an injury is found with the rule that it breaks", () => {
  const injuries = INJURIES.map((one) => [one.rule, one.name, one] as const);
  it.each(sampled(injuries, 12))("[%s] %s", async (rule, _name, { change }) => {
    const dir = healthy.copy();
    injure(dir, (db) => change(db, healthy.tasks));
    const found = broken(await examine(dir));
    expect(found.map((one) => one.rule)).toContain(rule);
    rmSync(dir, { recursive: true });
  });
});
