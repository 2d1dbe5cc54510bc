/**
 * The program behind `npm run simulate`: seed after seed until the time is over. Each finding is
 * written as a file that replays it.
 *
 * --minutes N     how long (default 1)
 * --from N        first seed (default: from the clock)
 * --count N       at most N seeds
 * --store sqlite  on a real SQLite file (default: memory)
 * --out DIR       where findings are written (default .simulation)
 * --replay FILE   runs the plan of a file and prints its trace
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createPlan, type Plan } from "./plan.ts";
import { run, type Outcome } from "./run.ts";
import { shrink } from "./shrink.ts";
import { Summary } from "./summary.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "1" },
    from: { type: "string" },
    count: { type: "string" },
    store: { type: "string", default: "memory" },
    out: { type: "string", default: ".simulation" },
    replay: { type: "string" },
    part: { type: "string", default: "0/1" },
  },
});

const MINUTE_MS = 60_000;
const YEAR_MS = 365 * 24 * 3_600_000;

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

async function replay(file: string): Promise<number> {
  const { plan } = JSON.parse(readFileSync(file, "utf8")) as { plan: Plan };
  const outcome = await run(plan);
  for (const line of outcome.trace) print(line);
  for (const { rule, detail } of outcome.findings) print(`${rule}: ${detail}`);
  print(`trace ${outcome.digest}`);
  return outcome.findings.length === 0 ? 0 : 1;
}

async function report(outcome: Outcome, dir: string): Promise<string> {
  const smallest = await shrink(outcome);
  mkdirSync(dir, { recursive: true });
  const file = join(dir, `${outcome.plan.seed}.json`);
  const { plan, findings, digest } = smallest;
  writeFileSync(file, `${JSON.stringify({ findings, digest, plan }, null, 1)}\n`);
  writeFileSync(file.replace(".json", ".trace"), `${smallest.trace.join("\n")}\n`);
  return `${file} (${plan.acts.length} of ${outcome.plan.acts.length} acts)`;
}

async function search(): Promise<number> {
  const [part = 0, parts = 1] = values.part.split("/").map(Number);
  const first = Number(values.from ?? Date.now() % 1_000_000_000);
  const store = values.store === "sqlite" ? "sqlite" : "memory";
  const endAt = performance.now() + Number(values.minutes) * MINUTE_MS;
  const summary = new Summary();
  let stopped = false;
  process.once("SIGTERM", () => (stopped = true)).once("SIGINT", () => (stopped = true));
  print(`seeds from ${first + part}, every ${parts}`);
  let printAt = performance.now() + 5 * MINUTE_MS;
  for (let n = 0; n < Number(values.count ?? Infinity) && performance.now() < endAt && !stopped; n += 1) {
    const outcome = await run(createPlan(first + part + n * parts, store));
    const isNew = summary.add(outcome);
    if (outcome.findings.length > 0) {
      const { rule, detail } = outcome.findings[0]!;
      print(`seed ${outcome.plan.seed}: ${rule}: ${detail}`);
      if (isNew) print(`  ${await report(outcome, values.out)}`);
    }
    if (performance.now() < printAt) continue;
    print(summary.text(YEAR_MS));
    printAt = performance.now() + 5 * MINUTE_MS;
  }
  print(summary.text(YEAR_MS));
  return summary.findings === 0 ? 0 : 1;
}

process.exitCode = values.replay === undefined ? await search() : await replay(values.replay);
