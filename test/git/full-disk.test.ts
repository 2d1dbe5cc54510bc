/** A repository that is larger than the disk, on a real small file system. */
import { randomBytes } from "node:crypto";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { openRepositories } from "../../src/git/repositories.ts";
import { errorCode } from "../contract/repositories.ts";
import { startGitServer, type GitServer } from "../support/git-server.ts";
import { openSmallDisk, type SmallDisk } from "../support/process/small-disk.ts";
import { PATIENCE_MS } from "../support/vitest/patience.ts";

let disk: SmallDisk | null = null;
let server: GitServer | null = null;
afterEach(async () => {
  await server?.close();
  disk?.close();
  [server, disk] = [null, null];
});

it("[Y5] [D10] ends its own task, nothing of it stays, and other repositories are fetched", async ({ skip }) => {
  disk = openSmallDisk(40);
  if (disk === null) return skip("only root may mount");
  server = await startGitServer();
  const small = server.createRepo("small", { "a.txt": "a" });
  const large = server.createRepo("large", { "a.txt": "a" });
  server.commit("large", "main", { "big.txt": randomBytes(15 * 2 ** 20).toString("hex") });
  server.shape("large", { bytesPerSecond: 20 * 2 ** 20 });
  const repos = openRepositories({ dir: disk.dir, trustedHosts: [server.host], floorMb: 30 });
  const before = disk.freeMb();
  let lowest = before;
  const watch = setInterval(() => (lowest = Math.min(lowest, disk?.freeMb() ?? 0)), 5);
  const prepare = (repo: string, taskId: string) =>
    repos.prepare(
      { taskId, userId: "user_a", repo, auth: null, base: null, parentTaskId: null },
      AbortSignal.timeout(PATIENCE_MS),
    );
  const [failed] = await Promise.all([errorCode(prepare(large.url, "task_a")), prepare(small.url, "task_b")]);
  clearInterval(watch);
  expect(failed).toBe("repo_too_large");
  expect(lowest).toBeGreaterThan(20);
  expect(disk.freeMb()).toBeGreaterThan(before - 1);
  const left = readdirSync(join(disk.dir, "mirrors"), { recursive: true, encoding: "utf8" });
  expect(left.filter((name) => /tmp_|\.heal|\.new/.test(name))).toEqual([]);
  // A disk that is filled by others is not the fault of the task: it waits for free space.
  disk.fill();
  server.commit("small", "main", { "b.txt": "b".repeat(1_000) });
  server.shape("small", { bytesPerSecond: 100 });
  expect(await errorCode(prepare(small.url, "task_c"))).toBe("interrupted");
  disk.clear();
  server.shape("small", null);
  await prepare(small.url, "task_c");
  await repos.close();
});

it("[Y5] what git cannot write here is the server's disk, and the host is not named", async ({ skip }) => {
  disk = openSmallDisk(40);
  if (disk === null) return skip("only root may mount");
  server = await startGitServer();
  const { url } = server.createRepo("small", { "a.txt": "a" });
  const repos = openRepositories({ dir: disk.dir, trustedHosts: [server.host] });
  const prepare = (taskId: string) =>
    repos.prepare(
      { taskId, userId: "user_a", repo: url, auth: null, base: null, parentTaskId: null },
      AbortSignal.timeout(PATIENCE_MS),
    );
  await prepare("task_a");
  server.commit("small", "main", { "b.txt": randomBytes(2 ** 20).toString("hex") });
  disk.fill();
  await expect(prepare("task_b")).rejects.toMatchObject({ code: "interrupted", message: "The server's disk is full." });
  disk.clear();
  await prepare("task_b");
  await repos.close();
});
