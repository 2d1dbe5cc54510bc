/** `slipway doctor` and `--repair` on copies of a healthy data folder, each with one injury. */
import { readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runDoctor, type CheckResult } from "../../../src/app/checker/doctor.ts";
import Database from "../../../src/store/sqlite/driver.ts";
import { eventually } from "../../support/process/server.ts";
import { configFor, injure, makeHealthyFolder, type HealthyFolder } from "./healthy-folder.ts";
import { INJURIES } from "./injuries.ts";
import { sampled } from "../../support/random.ts";

let healthy: HealthyFolder;
let whole: Contents;
beforeAll(async () => {
  healthy = await makeHealthyFolder();
  whole = contents(healthy.dir);
});
afterAll(() => healthy.close());

type Contents = Record<string, unknown[]>;

/** What a repair brings back: everything but revisions, and the identity of a row of the ledger. */
const QUERIES = {
  tasks: `SELECT id, user_id, thread_id, parent_id, machine_version, priority, turn, rank, created_at, state, slot,
    attempt, excused, seq, due_at, updated_at, started_at, settled_at, snapshot FROM tasks ORDER BY id`,
  task_specs: "SELECT * FROM task_specs ORDER BY task_id",
  task_events: "SELECT * FROM task_events ORDER BY task_id, seq",
  messages: "SELECT * FROM messages ORDER BY task_id, seq",
  tool_calls: "SELECT * FROM tool_calls ORDER BY task_id, seq",
  attempts: "SELECT * FROM attempts ORDER BY task_id, number",
  transcripts: "SELECT * FROM transcripts ORDER BY task_id, n",
  tallies: "SELECT * FROM tallies WHERE tasks > 0 ORDER BY state",
  ledger: `SELECT task_id, user_id, model, input_tokens, output_tokens, usd FROM model_requests
    ORDER BY task_id, input_tokens, output_tokens`,
  keys: "SELECT * FROM idempotency_keys ORDER BY key",
  users: "SELECT * FROM users ORDER BY id",
  sessions: "SELECT * FROM sessions ORDER BY id",
  schema: "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name",
};

function read(dir: string, names: readonly (keyof typeof QUERIES)[]): Contents {
  const db = new Database(join(dir, "slipway.db"), { readonly: true });
  try {
    return Object.fromEntries(names.map((name) => [name, db.prepare(QUERIES[name]).all()]));
  } finally {
    db.close();
  }
}

const contents = (dir: string): Contents => read(dir, Object.keys(QUERIES) as (keyof typeof QUERIES)[]);
const log = (dir: string): Contents => read(dir, ["task_events"]);

const examine = (dir: string): Promise<CheckResult[]> => runDoctor({ config: configFor(healthy, dir) });
const repair = (dir: string): Promise<CheckResult[]> => runDoctor({ config: configFor(healthy, dir), repair: true });
const broken = (results: readonly CheckResult[]): CheckResult[] => results.filter(({ ok }) => !ok);
const summary = (results: readonly CheckResult[]) => results.find(({ rule }) => rule === "repair")?.detail;
const backups = (dir: string): string[] => readdirSync(join(dir, "backups"));

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

describe("[M7] what follows from the log is repaired", () => {
  const repaired = INJURIES.filter((one) => one.repaired).map((one) => [one.rule, one.name, one] as const);

  it.each(sampled(repaired, 6))("%s: %s", async (_rule, _name, { change, fromLog }) => {
    const dir = healthy.copy();
    injure(dir, (db) => change(db, healthy.tasks));
    const before = log(dir);
    const results = await repair(dir);
    expect(broken(results)).toEqual([]);
    expect(summary(results)).toMatch(/^\d+ findings? repaired; the database from before is .*slipway-.*\.db$/);
    expect(log(dir)).toEqual(before);
    if (fromLog !== false) expect(contents(dir)).toEqual(whole);
    expect(summary(await repair(dir))).toBe("nothing to repair");
    expect(backups(dir)).toHaveLength(1);
    expect(statSync(join(dir, "backups", backups(dir)[0] ?? "")).mode & 0o777).toBe(0o600);
    rmSync(dir, { recursive: true });
  });

  it("all at once; then a coordinator starts, and the tasks go on", async () => {
    const dir = healthy.copy();
    const { parked, queued, running } = healthy.tasks;
    injure(dir, (db) => {
      for (const { change, repaired: heals, fromLog, isOfFile, rule } of INJURIES) {
        // A seq above the log's beside a damaged snapshot may mean that the log lost its end.
        if (!heals || fromLog === false || isOfFile === true || rule === "T4") continue;
        try {
          change(db, healthy.tasks);
        } catch {
          // An injury before it removed what this one would change.
        }
      }
    });
    expect(broken(await examine(dir))).not.toEqual([]);
    expect(broken(await repair(dir))).toEqual([]);
    expect(contents(dir)).toEqual(whole);
    const server = await healthy.serve(dir);
    try {
      const until = (id: string, state: string): Promise<true> =>
        eventually(async () => ((await server.task(id)).state === state ? true : null), `${id} is ${state}`);
      await until(running, "running");
      await server.call("POST", `/v1/tasks/${running}/cancel`, {});
      await until(running, "cancelled");
      await until(queued, "done");
      const { question } = await server.task(parked);
      const answer = { questionId: question?.id, text: "continue" };
      expect((await server.call("POST", `/v1/tasks/${parked}/answer`, answer)).status).toBe(200);
      await until(parked, "done");
    } finally {
      await healthy.stop(server, dir);
    }
    expect(broken(await examine(dir))).toEqual([]);
  });
});

describe("[M7] what does not follow from the log stays as it is", () => {
  const lasting = INJURIES.filter((one) => !one.repaired).map((one) => [one.rule, one.name, one] as const);

  it.each(sampled(lasting, 4))("%s: %s", async (rule, _name, { change }) => {
    const dir = healthy.copy();
    injure(dir, (db) => change(db, healthy.tasks));
    const before = log(dir);
    const results = await repair(dir);
    expect(broken(results).map((one) => one.rule)).toContain(rule);
    expect(log(dir)).toEqual(before);
    expect(summary(await repair(dir))).toBe("nothing to repair");
    rmSync(dir, { recursive: true });
  });
});

it("[M7] while a coordinator uses the folder, nothing is repaired", async () => {
  const dir = healthy.copy();
  const server = await healthy.serve(dir);
  try {
    await expect(repair(dir)).rejects.toMatchObject({ code: "locked" });
    expect(readdirSync(dir)).not.toContain("backups");
  } finally {
    await healthy.stop(server, dir);
  }
});
