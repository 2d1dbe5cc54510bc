/** `slipway backup` and `slipway restore`, with a real server, real workers and real git. */
import { createReadStream, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { Readable } from "node:stream";
import { createGunzip, gunzipSync, gzipSync } from "node:zlib";
import { extract as openExtract, pack as openPack } from "tar-stream";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { restoreBackup } from "../../src/app/data-folder/restore.ts";
import { deriveInstanceId } from "../../src/core/lib/runtime/instance-id.ts";
import type { WireTask } from "../../src/core/protocol/rest.ts";
import { openProcessSandbox } from "../../src/sandbox/process/sandbox.ts";
import { startGitServer, type GitServer } from "../support/git-server.ts";
import { eventually, ROOT, startServer, type RealServer } from "../support/process/server.ts";
import { killAll, makeHome, run } from "./command.ts";
import { inTurnTogether } from "../support/vitest/full-run.ts";

const it = inTurnTogether(3, 1);

const FINISH = { finish: { title: "Work", summary: "Done." } };
let home = "";
let remove = (): void => undefined;
let upstream: GitServer;
let repo: string;
let server: RealServer;
/** Workers wait until this file exists. */
let go: string;
const ids: string[] = [];

const dataDir = (): string => join(home, "data");
const serve = (dir: string): Promise<RealServer> =>
  startServer({ dataDir: dir, env: { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host, SLIPWAY_MAX_CONCURRENT: "2" } });

async function submit(name: string, ...steps: object[]): Promise<string> {
  const script = [{ bash: `echo ${name} > ${name}.txt` }, ...steps, FINISH];
  const answer = await server.call("POST", "/v1/tasks", { repo, prompt: name, agent: "scripted", script });
  expect(answer.status, JSON.stringify(answer.body)).toBe(201);
  const { id } = answer.body as WireTask;
  ids.push(id);
  return id;
}

const until = (id: string, what: string): Promise<WireTask> =>
  eventually(async () => {
    const task = await server.task(id);
    return task.state === what || task.phase === what ? task : null;
  }, `${id} is ${what}`);

/** The folder and its workers, of a server that was killed. */
async function lose(dir: string): Promise<void> {
  const instance = deriveInstanceId(dir);
  const sandbox = openProcessSandbox({ dir, workerFile: join(ROOT, "dist/worker.mjs"), instance });
  for (const { name } of await sandbox.list()) await sandbox.remove(name);
  await sandbox.close();
  rmSync(dir, { recursive: true });
}

beforeAll(async () => {
  ({ home, remove } = makeHome());
  go = join(home, "go");
  upstream = await startGitServer();
  repo = upstream.createRepo("app").url;
  server = await serve(dataDir());
  await until(await submit("first"), "done");
  for (const name of ["second", "third"])
    await until(await submit(name, { bash: `until [ -e ${go} ]; do sleep 0.1; done` }), "working");
  await submit("fourth");
});
afterAll(async () => {
  await server.kill("SIGKILL");
  killAll();
  await upstream.close();
  remove();
});

describe("a backup of a server that works", () => {
  it("[M10] restored elsewhere it passes doctor, and every task goes on to its end", async () => {
    const file = join(home, "backup.tar.gz");
    let isWritten = false;
    const writing = (async () => {
      for (let n = 0; !isWritten && n < 10; n += 1) await submit(`beside-${n}`);
    })();
    const made = await run(home, ["backup", file, "--data-dir", dataDir(), "--with-key"]);
    isWritten = true;
    await writing;
    expect(made).toMatchObject({ code: 0, err: "" });
    expect(made.out).toMatch(/read back and verified/);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    await server.kill("SIGKILL");
    await lose(dataDir());

    const copy = join(home, "restored");
    const restored = await run(home, ["restore", file, "--into", copy], { env: { SLIPWAY_SANDBOX: "process" } });
    expect(restored.out + restored.err).toMatch(/All checks passed/);
    expect(restored.code).toBe(0);
    writeFileSync(go, "");
    server = await serve(copy);
    const listed = (await server.call("GET", "/v1/tasks?limit=200")).body as { items: WireTask[] };
    expect(listed.items.map(({ id }) => id)).toEqual(expect.arrayContaining(ids.slice(0, 4)));
    for (const { id } of listed.items.toReversed()) {
      const task = await until(id, "done").catch(async () => await server.task(id));
      expect(task, JSON.stringify(task)).toMatchObject({ state: "done", outcome: "pushed" });
    }
  });

  it("[M10] one that is taken while 200 tasks come restores those that it has, and they go on", async () => {
    const [source, copy, gate] = ["many", "many-restored", "many-go"].map((name) => join(home, name)) as [
      string,
      string,
      string,
    ];
    const off = { SLIPWAY_USER_TASKS_PER_MINUTE: "0", SLIPWAY_USER_OPEN_TASKS: "0", SLIPWAY_MAX_CONCURRENT: "2" };
    const open = (dataDir: string): Promise<RealServer> =>
      startServer({ dataDir, env: { ...off, SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host } });
    let many = await open(source);
    const script = [{ bash: `until [ -e ${gate} ]; do sleep 0.1; done; echo x > x.txt` }, FINISH];
    const add = async (n: number): Promise<void> => {
      const body = { repo, prompt: `task ${n}`, agent: "scripted", script };
      expect((await many.call("POST", "/v1/tasks", body)).status).toBe(201);
    };
    const file = join(home, "many.tar.gz");
    for (let n = 0; n < 100; n += 1) await add(n);
    const taken = run(home, ["backup", file, "--data-dir", source, "--with-key"]);
    for (let n = 100; n < 200; n += 1) await add(n);
    expect(await taken).toMatchObject({ code: 0, err: "" });
    await many.kill("SIGKILL");
    await lose(source);

    const restored = await run(home, ["restore", file, "--into", copy], { env: { SLIPWAY_SANDBOX: "process" } });
    expect(restored.out + restored.err).toMatch(/All checks passed/);
    writeFileSync(gate, "");
    many = await open(copy);
    try {
      const counts = async () => (await many.call("GET", "/v1/tasks?limit=200")).body as { items: WireTask[] };
      const { items } = await counts();
      expect(items.length).toBeGreaterThanOrEqual(100);
      expect(items.filter(({ failure }) => failure !== null)).toEqual([]);
      const done = async () => (await counts()).items.filter(({ outcome }) => outcome === "pushed").length;
      await eventually(async () => ((await done()) >= 6 ? true : null), "six tasks of the backup are done");
    } finally {
      await many.kill("SIGKILL");
      await lose(copy);
    }
  });

  it("[M10] one that was cut off anywhere, or changed, restores nothing", async () => {
    const file = join(home, "whole.tar.gz");
    expect((await run(home, ["backup", file, "--data-dir", join(home, "restored")])).code).toBe(0);
    const whole = readFileSync(file);
    const into = join(home, "cut");
    for (let part = 0; part < 16; part += 1) {
      const cut = whole.subarray(0, Math.floor((whole.length * part) / 16));
      await expect(restoreBackup(Readable.from([cut]), into), `${part}/16`).rejects.toThrow(/cut off|no backup/);
    }
    const tar = gunzipSync(whole);
    // Also without the trailer of gzip, and with one byte of the database's content changed.
    const at = tar.indexOf("SQLite format 3") + 2_000;
    tar[at] = (tar[at] ?? 0) ^ 1;
    await expect(restoreBackup(Readable.from([gzipSync(tar)]), into)).rejects.toThrow(/slipway.db is not as it was/);
    expect(readdirSync(home).filter((name) => name.startsWith("cut"))).toEqual([]);
    const { code, err } = await run(home, ["restore", "-", "--into", into], { input: "hello" });
    expect([code, err]).toEqual([2, expect.stringMatching(/damaged or was cut off/)]);
  });

  it("[M10] the secret key and the operator's token are not in it unless asked for", async () => {
    const into = join(home, "without-key");
    await restoreBackup(createReadStream(join(home, "whole.tar.gz")), into);
    for (const name of ["secret.key", "operator.token", "slipway.lock", "sandboxes", "run"])
      expect(existsSync(join(into, name)), name).toBe(false);
    expect(statSync(into).mode & 0o777).toBe(0o700);
    expect(statSync(join(into, "slipway.db")).mode & 0o777).toBe(0o600);
    const open = join(home, "open");
    const told = await run(home, ["restore", join(home, "whole.tar.gz"), "--into", open], {
      env: { SLIPWAY_SANDBOX: "process" },
    });
    expect(told.out).toMatch(/no secret key/);
  });

  it("[M10] nothing is overwritten, and nothing is written outside of the folder", async () => {
    const file = join(home, "whole.tar.gz");
    const again = await run(home, ["backup", file, "--data-dir", join(home, "restored")]);
    expect([again.code, again.err]).toEqual([2, expect.stringMatching(/exists\. Name a new file/)]);
    const over = await run(home, ["restore", file, "--into", join(home, "restored")]);
    expect([over.code, over.err]).toEqual([2, expect.stringMatching(/is not empty/)]);
    const none = await run(home, ["backup", join(home, "x"), "--data-dir", join(home, "nowhere")]);
    expect([none.code, none.err]).toEqual([2, expect.stringMatching(/no Slipway database/)]);
    for (const name of ["../outside", "/outside", "a/../../outside"]) {
      const pack = openPack();
      const header = { format: 1, version: "1", createdAt: new Date(0).toISOString(), hasKey: false };
      pack.entry({ name: "slipway-backup.json" }, JSON.stringify(header));
      pack.entry({ name }, "x");
      pack.finalize();
      const bytes: Buffer[] = [];
      for await (const piece of pack) bytes.push(piece as Buffer);
      const hostile = Readable.from([gzipSync(Buffer.concat(bytes))]);
      await expect(restoreBackup(hostile, join(home, "hostile"))).rejects.toThrow(/outside of the data folder/);
    }
    expect(existsSync(join(home, "outside"))).toBe(false);
  });

  it("[M10] one since an earlier one has what changed; both together restore all, one alone nothing", async () => {
    const source = join(home, "restored");
    const whole = join(home, "whole.tar.gz");
    const [second, third] = [join(home, "second.tar.gz"), join(home, "third.tar.gz")];
    const backup = (file: string, since: string) => run(home, ["backup", file, "--data-dir", source, "--since", since]);
    writeFileSync(join(source, "attachments-note.txt"), "one", { mode: 0o600 });
    const made = await backup(second, whole);
    expect(made).toMatchObject({ code: 0, out: expect.stringContaining(`It continues ${whole}: keep both.`) });
    writeFileSync(join(source, "attachments-note.txt"), "two", { mode: 0o600 });
    expect((await backup(third, second)).code).toBe(0);
    const filesOf = async (file: string): Promise<string[]> => {
      const names: string[] = [];
      const entries = createReadStream(file).pipe(createGunzip()).pipe(openExtract());
      for await (const entry of entries) {
        names.push(entry.header.name);
        entry.resume();
      }
      return names;
    };
    expect(await filesOf(second)).not.toContainEqual(expect.stringContaining("objects/"));
    expect(await filesOf(third)).toContain("attachments-note.txt");

    const restore = (into: string, file: string, ...earlier: string[]) =>
      run(
        home,
        ["restore", file, "--into", join(home, into), ...(earlier.length > 0 ? ["--earlier", ...earlier] : [])],
        {
          env: { SLIPWAY_SANDBOX: "process", SLIPWAY_SECRET_KEY_FILE: join(source, "secret.key") },
        },
      );
    for (const earlier of [[], [second]]) {
      const { code, err } = await restore("none", third, ...earlier);
      expect([code, err]).toEqual([2, expect.stringMatching(/continues one of .*files are missing.*--earlier/)]);
    }
    const both = await restore("both", second, whole);
    expect(both.out + both.err).toMatch(/All checks passed/);
    expect(readFileSync(join(home, "both", "attachments-note.txt"), "utf8")).toBe("one");
    const all = await restore("all", third, second, whole);
    expect(all.out + all.err).toMatch(/All checks passed/);
    expect(readFileSync(join(home, "all", "attachments-note.txt"), "utf8")).toBe("two");
    // Empty folders are not in a backup.
    const names = (dir: string): Set<string> => {
      const entries = readdirSync(join(home, dir, "git"), { recursive: true, withFileTypes: true });
      return new Set(
        entries.flatMap((e) => (e.isFile() ? [relative(home + "/" + dir, join(e.parentPath, e.name))] : [])),
      );
    };
    expect(names("all")).toEqual(names("restored"));

    const cut = join(home, "cut-base.tar.gz");
    writeFileSync(cut, readFileSync(whole).subarray(0, -1_000), { mode: 0o600 });
    expect((await restore("none", second, cut)).err).toMatch(/damaged or was cut off/);
    expect((await backup(join(home, "no.tar.gz"), cut)).err).toMatch(/damaged or was cut off/);
    expect([existsSync(join(home, "none")), existsSync(join(home, "no.tar.gz"))]).toEqual([false, false]);
  });
});
