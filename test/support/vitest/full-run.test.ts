/** What quick runs and full runs try: runs of their own over turns.fixture.ts. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { beforeAll, expect, it } from "vitest";

const ROOT = join(import.meta.dirname, "../../..");
const FIXTURE = join(import.meta.dirname, "turns.fixture.ts");
const SKIPPED = " (skipped: SLIPWAY_TEST_FULL is not 1)";
const SEEDS = [0, 1, 2, 3, 4, 5];
const TURNS = ["one", "two", "three", "four", "five", "six"];
const ALWAYS = ["in every run", "of each"];
const TOGETHER = ["built", "upon"];

type Tests = readonly (readonly [name: string, state: string])[];
const [FULL, IN_TIME, LATE] = ["full", "in time", "late"];
const NOW_S = Math.floor(Date.now() / 1_000);

/** One run with a project per environment; prints the names and the states of each one's tests. */
const PROGRAM = `
  import { startVitest } from "vitest/node";
  const { fixture, environments } = JSON.parse(process.argv[1]);
  const projects = Object.entries(environments).map(([name, env]) => ({ test: { name, include: [fixture], env } }));
  const vitest = await startVitest("test", [], { config: false, watch: false, reporters: [{}], projects, maxWorkers: 2 });
  const found = {};
  for (const file of vitest.state.getTestModules())
    found[file.project.name] = [...file.children.allTests()].map((test) => [test.fullName, test.result().state]);
  await vitest.close();
  console.log("found " + JSON.stringify(found));`;

let found: Readonly<Record<string, Tests>>;
beforeAll(async () => {
  const seeds = SEEDS.map((seed) => [`seed ${seed}`, { SLIPWAY_TEST_SEED: String(seed), SLIPWAY_TEST_FULL: "" }]);
  const full = { SLIPWAY_TEST_SEED: "1", SLIPWAY_TEST_FULL: "1" };
  const until = (s: number): object => ({ ...full, SLIPWAY_TEST_FULL_UNTIL: String(s) });
  const ends = { [IN_TIME]: until(NOW_S + 3_600), [LATE]: until(NOW_S - 1) };
  const environments = { ...Object.fromEntries(seeds), [FULL]: full, ...ends };
  const input = JSON.stringify({ fixture: FIXTURE, environments });
  const own = Object.entries(process.env).filter(([name]) => !/^(?:VITEST|SLIPWAY_TEST_FULL)/.test(name));
  const options = { cwd: ROOT, env: Object.fromEntries(own) };
  const args = ["--input-type=module", "-e", PROGRAM, input];
  const { stdout } = await promisify(execFile)(process.execPath, args, options);
  found = JSON.parse(/^found (.*)$/m.exec(stdout)?.[1] ?? "{}") as typeof found;
});

const tried = (run: string): string[] =>
  (found[run] ?? []).filter(([, state]) => state === "passed").map(([name]) => name);

it("a quick run tries every third scenario, from one that the seed chooses; what is not tried says why", () => {
  for (const seed of SEEDS) {
    const turns = [...TURNS.filter((_, i) => (seed + 1 + i) % 3 === 0), ...(seed % 3 === 1 ? TOGETHER : [])];
    expect(tried(`seed ${seed}`).toSorted(), `seed ${seed}`).toEqual([...turns, ...ALWAYS].toSorted());
    const rest = [...TURNS, ...TOGETHER].filter((name) => !turns.includes(name)).map((name) => `${name}${SKIPPED}`);
    const skipped = (found[`seed ${seed}`] ?? []).filter(([, state]) => state === "skipped").map(([name]) => name);
    expect(skipped.toSorted()).toEqual([...rest, `a long suite${SKIPPED} > in it`].toSorted());
  }
});

it("three seeds in a row try each scenario once, and those that build on each other in one run", () => {
  const turns = (seed: number): string[] => tried(`seed ${seed}`).filter((name) => !ALWAYS.includes(name));
  for (const first of [0, 1, 2, 3])
    expect([first, first + 1, first + 2].flatMap(turns).toSorted()).toEqual([...TURNS, ...TOGETHER].toSorted());
});

it("a full run tries all, also long suites", () => {
  const all = [...TURNS, ...TOGETHER, ...ALWAYS, "a long suite > in it"];
  expect(tried(FULL).toSorted()).toEqual(all.toSorted());
  expect(found[FULL]).toHaveLength(all.length);
});

it("a full run whose time is over goes on in the quick size, and what is not tried says so", () => {
  expect(found[IN_TIME]).toEqual(found[FULL]);
  const reason = " (skipped: SLIPWAY_TEST_FULL_UNTIL is over)";
  const quick = (found["seed 1"] ?? []).map(([name, state]) => [name.replace(SKIPPED, reason), state]);
  expect(quick.filter(([, state]) => state === "skipped")).not.toHaveLength(0);
  expect(found[LATE]).toEqual(quick);
});
