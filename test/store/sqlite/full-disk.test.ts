/** A store whose disk is filled to the last byte. */
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { openSqliteStore, type SqliteStore } from "../../../src/store/sqlite/store.ts";
import { cancel, createCommit, newTask } from "../../contract/tasks.ts";
import { openSmallDisk, type SmallDisk } from "../../support/process/small-disk.ts";
import { MIGRATIONS } from "../data-folder.ts";

const RESERVE = 4 * 2 ** 20;
let disk: SmallDisk | null = null;
let opened: SqliteStore | null = null;
afterEach(async () => {
  await opened?.store.close();
  opened = null;
  disk?.close();
  disk = null;
});

function openStore(dir: string): SqliteStore {
  return (opened = openSqliteStore({ dir, migrations: MIGRATIONS, reserveBytes: RESERVE }));
}
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "done",
    (error: { code?: string }) => String(error.code),
  );

it("[Y5] records ends of tasks, refuses new ones, and accepts them again without a restart", async ({ skip }) => {
  disk = openSmallDisk(48);
  if (disk === null) return skip("only root may mount");
  const { store } = openStore(disk.dir);
  const prompt = "x".repeat(100_000);
  const tasks = [];
  for (let i = 0; i < 20; i += 1) {
    const made = await store.create(newTask({ id: `task_${i}` }));
    if (made.kind === "created") tasks.push(made.task);
  }
  disk.fill();
  expect(disk.freeMb()).toBeLessThan(0.1);
  // The journal may have some room of its own at first.
  await expect.poll(async () => codeOf(store.create(newTask({ spec: { prompt } })))).toBe("unavailable");
  expect(existsSync(join(disk.dir, "reserve.bin"))).toBe(false);
  for (const task of tasks) expect(await store.commit(createCommit(task, cancel))).not.toBeNull();
  expect(await codeOf(store.create(newTask()))).toBe("unavailable");
  disk.clear();
  await expect.poll(() => codeOf(store.create(newTask()))).toBe("done");
  expect(statSync(join(disk.dir, "reserve.bin")).size).toBe(RESERVE);
});

it("[Y5] opens on a full disk by its reserve, and once the reserve is used up, when there is room", async ({
  skip,
}) => {
  disk = openSmallDisk(48);
  if (disk === null) return skip("only root may mount");
  const made = await openStore(disk.dir).store.create(newTask());
  if (made.kind !== "created") throw new Error("not created");
  await opened?.store.close();
  disk.fill();
  const { store } = openStore(disk.dir);
  expect(await store.commit(createCommit(made.task, cancel))).not.toBeNull();
  expect(await codeOf(store.create(newTask()))).toBe("unavailable");
  disk.clear();
  await expect.poll(() => codeOf(store.create(newTask()))).toBe("done");
});
