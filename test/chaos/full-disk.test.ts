/** A data folder that was filled to the last byte, under a real server. */
import { readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import type { Overview, WireTask } from "../../src/core/protocol/rest.ts";
import { startGitServer, type GitServer } from "../support/git-server.ts";
import { eventually, startServer, type RealServer } from "../support/process/server.ts";
import { openSmallDisk, type SmallDisk } from "../support/process/small-disk.ts";

let disk: SmallDisk | null = null;
let upstream: GitServer | null = null;
let server: RealServer | null = null;
afterEach(async () => {
  await server?.kill("SIGKILL");
  await upstream?.close();
  disk?.close();
  [server, upstream, disk] = [null, null, null];
});

const serve = async (host: string, dir: string): Promise<RealServer> =>
  (server = await startServer({
    dataDir: join(dir, "data"),
    env: { SLIPWAY_TRUSTED_REPO_HOSTS: host, SLIPWAY_MIN_FREE_MB: "60" },
  }));
const submit = async (url: string): Promise<{ status: number; id: string }> => {
  const script = [{ finish: { title: "T", summary: "S" } }];
  const asked = { repo: url, prompt: "Do it.", script, maxAttempts: 1 };
  const { status, body } = (await server?.call("POST", "/v1/tasks", asked)) ?? { status: 0, body: null };
  return { status, id: (body as WireTask | null)?.id ?? "" };
};
const end = (id: string): Promise<WireTask> =>
  eventually(async () => {
    const task = await server?.task(id);
    return task === undefined || task.settledAt === null ? null : task;
  }, `task ${id} settles`);
const reserve = async (): Promise<Overview["storage"]["reserve"] | undefined> =>
  ((await server?.call("GET", "/v1/ops/overview"))?.body as Overview | undefined)?.storage.reserve;

it("[Y5] a folder that was filled to the last byte opens, removes what fetches left, and goes on", async ({ skip }) => {
  disk = openSmallDisk(140);
  if (disk === null) return skip("only root may mount");
  upstream = await startGitServer();
  const { url } = upstream.createRepo("small", { "a.txt": "a" });
  await serve(upstream.host, disk.dir);
  expect((await end((await submit(url)).id)).state).toBe("done");
  expect(await reserve()).toEqual({ mb: 16, held: true });
  await server?.kill("SIGKILL");
  // As a fetch that was killed leaves it; the reserve was used up before.
  rmSync(join(disk.dir, "data/reserve.bin"));
  const [mirror = ""] = readdirSync(join(disk.dir, "data/git/mirrors"));
  disk.fill();
  const left = join(disk.dir, "data/git/mirrors", mirror, "objects/pack/tmp_pack_AbCdEf");
  renameSync(join(disk.dir, "filler"), left);
  expect(disk.freeMb()).toBeLessThan(0.1);
  await serve(upstream.host, disk.dir);
  expect(disk.freeMb()).toBeGreaterThan(60);
  expect((await end((await submit(url)).id)).state).toBe("done");
  await eventually(async () => ((await reserve())?.held === true ? true : null), "the store has its reserve again");
});

it("[Y5] a folder where nothing can be written opens, and begins work when it has room again", async ({ skip }) => {
  disk = openSmallDisk(140);
  if (disk === null) return skip("only root may mount");
  upstream = await startGitServer();
  const { url } = upstream.createRepo("small", { "a.txt": "a" });
  await serve(upstream.host, disk.dir);
  const first = await end((await submit(url)).id);
  await server?.kill("SIGKILL");
  // What the start gives up or removes makes no room either.
  const full = setInterval(() => disk?.shrink(), 20);
  disk.shrink();
  try {
    await serve(upstream.host, disk.dir);
    expect(await server?.task(first.id)).toEqual(first);
    expect(await submit(url)).toMatchObject({ status: 503 });
  } finally {
    clearInterval(full);
    disk.clear();
  }
  const accepted = await eventually(async () => {
    const { status, id } = await submit(url);
    return status === 201 ? id : null;
  }, "there is room for a task");
  expect((await end(accepted)).state).toBe("done");
});
