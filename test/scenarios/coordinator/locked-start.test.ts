/** A write lock that another process holds while the coordinator starts. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { join } from "node:path";
import { expect, it } from "vitest";
import type { OperationsService } from "../../../src/coordinator/services/operations.ts";
import { LOCAL_TOKEN, openApiServer, type Answered } from "../../http/api-server.ts";

/** Another process takes the write lock of the database; the returned function ends it. */
async function takeLock(file: string): Promise<() => Promise<void>> {
  const driver = createRequire(import.meta.url).resolve("better-sqlite3");
  const code = `
    const db = new (require(${JSON.stringify(driver)}))(${JSON.stringify(file)});
    db.exec("BEGIN IMMEDIATE");
    console.log("held");
    process.stdin.resume().once("end", () => process.exit(0));`;
  const child = spawn(process.execPath, ["-e", code], { stdio: ["pipe", "pipe", "inherit"] });
  await once(child.stdout, "data");
  return async () => {
    child.stdin.end();
    await once(child, "exit");
  };
}

it("[D2] [D13] a start into a lock that outlasts the busy time says what is missing, and goes on after it", async () => {
  let current: OperationsService | null = null;
  // The server of a process that starts again: the operations are those of the newest coordinator.
  const operations = new Proxy({} as OperationsService, {
    get: (_target, name) => current?.[name as keyof OperationsService],
  });
  const api = await openApiServer({ deps: { operations } });
  const { harness } = api;
  const ready = async (): Promise<Answered> => {
    current = harness.coordinator.operations;
    const asked = api.call("GET", "/readyz");
    await api.clock.advance(3_000);
    return await asked;
  };
  try {
    const { id } = await harness.submit();
    await harness.until(id, "provisioning");
    const release = await takeLock(join(api.dir, "slipway.db"));
    const restarting = harness.restart();
    await expect
      .poll(() => harness.coordinator.operations.boot())
      .toContainEqual({ part: "tasks", reason: expect.stringMatching(/could not be adopted/) });
    const { status, body } = await ready();
    expect(status).toBe(503);
    expect(body.errors).toContainEqual({ path: "tasks", message: "are not adopted yet" });
    const overview = await api.call("GET", "/v1/ops/overview", { token: LOCAL_TOKEN });
    expect(overview.body.boot).toContainEqual({ part: "tasks", reason: expect.stringMatching(/could not be adopted/) });
    await release();
    await expect.poll(async () => (await ready()).status).toBe(200);
    await restarting;
    expect(harness.coordinator.operations.boot()).toEqual([]);
    const next = await harness.submit();
    await harness.until(next.id, "provisioning");
  } finally {
    await api.close();
  }
});
