/** `slipway doctor`, as people and programs read it. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { CheckResult } from "../../src/app/checker/doctor.ts";
import Database from "../../src/store/sqlite/driver.ts";
import { killAll, run, start } from "./command.ts";

let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "slipway-doctor-"));
});
afterEach(() => {
  killAll();
  rmSync(home, { recursive: true, force: true, maxRetries: 3 });
});

const env = {
  SLIPWAY_PORT: "0",
  SLIPWAY_SANDBOX: "process",
  SLIPWAY_DATA_DIR: "data",
  SLIPWAY_LOG_LEVEL: "silent",
};
const doctor = (...options: string[]) => run(home, ["doctor", ...options], { env });

it("[M6] [M7] a dropped trigger is named as text and as JSON; --repair refuses beside a server, then makes it again", async () => {
  const server = start(home, ["serve"], { env });
  await server.saw(/listening on/);
  const refused = await doctor("--repair");
  expect([refused.code, refused.err]).toEqual([2, expect.stringContaining("Another coordinator uses")]);
  server.process.kill("SIGTERM");
  await server.ended;
  expect((await doctor()).code).toBe(0);
  const db = new Database(join(home, "data", "slipway.db"));
  db.exec("DROP TRIGGER tasks_settled");
  db.close();

  const text = await doctor();
  expect([text.code, text.out]).toEqual([1, expect.stringMatching(/M6 +BROKEN.*the trigger tasks_settled is missing/)]);
  const json = await doctor("--json");
  const broken = (JSON.parse(json.out) as CheckResult[]).filter(({ ok }) => !ok);
  expect(broken).toMatchObject([
    { rule: "M6", findings: [{ taskId: "-", detail: "the trigger tasks_settled is missing", repair: "schema" }] },
  ]);

  const repaired = await doctor("--repair");
  expect(repaired.code).toBe(0);
  const [copy = ""] = readdirSync(join(home, "data", "backups"));
  expect(repaired.out).toContain("the trigger tasks_settled is missing");
  expect(repaired.out).toContain(join("data", "backups", copy));
  expect((await doctor("--repair")).out).toContain("nothing to repair");
});
