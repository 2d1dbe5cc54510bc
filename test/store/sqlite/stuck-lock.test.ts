/** Another process holds the database's lock and does not release it. */
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { Store } from "../../../src/core/ports/store.ts";
import { openSqliteStore } from "../../../src/store/sqlite/store.ts";
import { create, newTask } from "../../contract/tasks.ts";
import { dropFolder, makeFolder, MIGRATIONS } from "../data-folder.ts";
import { runChild, type Child } from "./child-process.ts";

let dir: string;
let store: Store;
let holder: Child;

const HOLD = `
  const db = new Database(args.path);
  db.exec("BEGIN IMMEDIATE");
  print("held");
  const ms = Number(await nextLine());
  await new Promise((resolve) => setTimeout(resolve, ms));
  db.exec("ROLLBACK");
  print("released");
  await nextLine();`;

beforeEach(async () => {
  dir = makeFolder();
  store = openSqliteStore({ dir, migrations: MIGRATIONS }).store;
  await create(store);
  holder = runChild(HOLD, { path: join(dir, "slipway.db") });
  expect(await holder.line()).toBe("held");
});
afterEach(async () => {
  await holder.kill();
  await store.close();
  dropFolder(dir);
});

it("[M8] however many writes wait for a stuck lock, they fail within seconds, and succeed once it is released", async () => {
  const begun = performance.now();
  const writes = Array.from({ length: 1_000 }, (_, i) => store.setSetting(`key${i}`, "x"));
  const results = await Promise.allSettled(writes);
  expect(
    new Set(results.map((result) => (result.status === "rejected" ? String(result.reason.code) : "written"))),
  ).toEqual(new Set(["unavailable"]));
  // One wait of 5 s; later batches only probe.
  expect(performance.now() - begun).toBeLessThan(12_000);

  const again = performance.now();
  await expect(store.create(newTask())).rejects.toMatchObject({ code: "unavailable" });
  expect(performance.now() - again).toBeLessThan(3_000);

  holder.send("0");
  expect(await holder.line()).toBe("released");
  expect((await store.create(newTask())).kind).toBe("created");
  expect(await store.setting("key1")).toBeNull();
  expect((await store.tasks({ userId: null, limit: 10 })).items).toHaveLength(2);
});

it("[M8] a lock that is released within 5 s fails no write", async () => {
  const writes = Array.from({ length: 300 }, (_, i) => store.setSetting(`key${i}`, "x"));
  holder.send("200");
  await Promise.all(writes);
  expect(await store.setting("key299")).toBe("x");
});
