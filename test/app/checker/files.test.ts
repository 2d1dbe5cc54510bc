/** `slipway doctor` on what lies beside the database: files, git repositories, sandboxes. */
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import { deriveInstanceId } from "../../../src/core/lib/runtime/instance-id.ts";
import { runDoctor, type CheckResult } from "../../../src/app/checker/doctor.ts";
import { sandboxName } from "../../../src/core/task.ts";
import { openProcessSandbox } from "../../../src/sandbox/process/sandbox.ts";
import Database from "../../../src/store/sqlite/driver.ts";
import { eventually, ROOT } from "../../support/process/server.ts";
import { readGit } from "../../support/repository.ts";
import { inTurn } from "../../support/vitest/full-run.ts";
import { configFor, makeHealthyFolder, type HealthyFolder } from "./healthy-folder.ts";

const it = inTurn(3);

let healthy: HealthyFolder;
beforeAll(async () => {
  healthy = await makeHealthyFolder();
});
afterAll(() => healthy.close());

const examine = (dir: string): Promise<CheckResult[]> => runDoctor({ config: configFor(healthy, dir) });
const repair = (dir: string): Promise<CheckResult[]> => runDoctor({ config: configFor(healthy, dir), repair: true });
const broken = (results: readonly CheckResult[]): string[] =>
  results.filter(({ ok }) => !ok).map(({ rule, detail }) => `${rule}: ${detail}`);

function repositoryOf(dir: string, taskId: string): string {
  const name = readdirSync(join(dir, "git"), { recursive: true, encoding: "utf8" }).find((path) =>
    path.endsWith(`${taskId}.git`),
  );
  return join(dir, "git", name ?? "absent");
}

/** Makes loose objects of a repository's packs, so that single ones can be removed. */
async function unpack(repository: string): Promise<void> {
  const packs = join(repository, "objects", "pack");
  const outside = join(repository, "..", "..", "unpacked");
  renameSync(packs, outside);
  mkdirSync(packs);
  for (const name of readdirSync(outside).filter((file) => file.endsWith(".pack")))
    execFileSync("git", ["unpack-objects", "-q"], { cwd: repository, input: readFileSync(join(outside, name)) });
  rmSync(outside, { recursive: true });
}

it.always("[M7] private files that others can read are found and closed", async () => {
  const dir = healthy.copy();
  for (const name of ["secret.key", "operator.token", "vapid.json", "slipway.db", "slipway.lock"]) {
    chmodSync(join(dir, name), 0o644);
    const refused =
      name === "secret.key" ? [expect.stringMatching(/^secret key: Other users can read .*chmod 600/)] : [];
    const readable = expect.stringContaining(`data folder: others can read ${name}`);
    expect(broken(await examine(dir))).toEqual([readable, ...refused]);
    expect(broken(await repair(dir))).toEqual([]);
    expect(statSync(join(dir, name)).mode & 0o777).toBe(0o600);
  }
});

it("[S1] an empty token is found", async () => {
  const dir = healthy.copy();
  writeFileSync(join(dir, "operator.token"), "");
  expect(broken(await examine(dir))).toEqual([expect.stringMatching(/operator.token is empty/)]);
});

it("[H16] a secret key that is missing or another one is found, also where a setting names its file", async () => {
  const dir = healthy.copy();
  const [key, file] = [join(dir, "secret.key"), join(dir, "..", "key-elsewhere")];
  const withFile = async (): Promise<string[]> =>
    (await runDoctor({ config: { ...configFor(healthy, dir), secretKeyFile: file } }))
      .filter(({ rule }) => rule === "secret key")
      .map(({ ok, detail }) => `${ok ? "ok" : "broken"}: ${detail}`);
  const right = readFileSync(key);
  expect((await examine(dir)).find(({ rule }) => rule === "secret key")).toEqual({
    rule: "secret key",
    ok: true,
    detail: `${key} opens all 4 data keys`,
  });
  expect(await withFile()).toEqual([`broken: There is no key file ${file}.`]);
  renameSync(key, file);
  expect(await withFile()).toEqual([`ok: ${file} opens all 4 data keys`]);
  expect(broken(await examine(dir))).toEqual([
    expect.stringMatching(/^secret key: The secret key of .* is missing.*SLIPWAY_SECRET_KEY_FILE.*with that setting/),
  ]);
  expect(existsSync(key)).toBe(false);
  writeFileSync(file, randomBytes(32).toString("hex"));
  expect(await withFile()).toEqual([expect.stringMatching(/^broken: .*key-elsewhere is not the secret key of/)]);

  writeFileSync(file, right);
  const db = new Database(join(dir, "slipway.db"));
  db.prepare("UPDATE data_keys SET wrapped = substr(wrapped, 1, 40) WHERE use = 'receipts'").run();
  db.close();
  expect(await withFile()).toEqual([expect.stringMatching(/^broken: .* does not open the data keys \w{8}: restore/)]);
});

it("[M7] locks of gits that have ended are found and removed", async () => {
  const dir = healthy.copy();
  const repository = repositoryOf(dir, healthy.tasks.done);
  const locks = ["packed-refs.lock", "refs/slipway/work.lock"].map((name) => join(repository, name));
  for (const lock of locks) {
    mkdirSync(join(lock, ".."), { recursive: true });
    writeFileSync(lock, "");
  }
  expect(broken(await examine(dir))).toEqual([expect.stringContaining("locks:")]);
  expect(broken(await repair(dir))).toEqual([]);
  expect(locks.filter((lock) => existsSync(lock))).toEqual([]);
});

it("[U4] an attachment of a prompt or a message that is gone, or was cut off, is found", async () => {
  const dir = healthy.copy();
  const ids = readdirSync(join(dir, "attachments"));
  expect([ids.length, broken(await examine(dir))]).toEqual([2, []]);
  writeFileSync(join(dir, "attachments", ids[0] ?? "", "content"), "cut");
  expect(broken(await examine(dir))).toEqual([expect.stringMatching(/^U4: .*has 3 bytes, not \d+/)]);
  rmSync(join(dir, "attachments"), { recursive: true });
  expect(broken(await examine(dir))).toEqual([expect.stringMatching(/^U4: .*broken 2 times.*gone.*gone/)]);
});

it("[W4] a task's repository that is gone, or that has lost its objects, is found", async () => {
  for (const task of ["done", "parked"] as const) {
    const dir = healthy.copy();
    const repository = repositoryOf(dir, healthy.tasks[task]);
    rmSync(join(repository, "objects", "pack"), { recursive: true });
    expect(broken(await examine(dir))).toContainEqual(expect.stringMatching(/^W4: .*lacks the saved commit/));
    rmSync(repository, { recursive: true });
    expect(broken(await examine(dir))).toContainEqual(expect.stringMatching(/^W4: .*its repository is gone/));
    rmSync(dir, { recursive: true });
  }
});

it("[W7] [M7] a mirror with a hole is found, marked once, and fetched again by the next task", async () => {
  const dir = healthy.copy();
  const mirrors = join(dir, "git", "mirrors");
  const [mirror = ""] = readdirSync(mirrors);
  const [ref = ""] = (await readGit(join(mirrors, mirror), "for-each-ref", "--format=%(refname)", "refs/heads")).split(
    "\n",
  );
  const tree = (await readGit(join(mirrors, mirror), "rev-parse", `${ref}^{tree}`)).trim();
  await unpack(join(mirrors, mirror));
  rmSync(join(mirrors, mirror, "objects", tree.slice(0, 2), tree.slice(2)));
  expect(broken(await examine(dir))).toContainEqual(expect.stringMatching(/^W7: .*lacks objects/));
  expect(broken(await repair(dir))).toEqual([]);
  expect((await repair(dir)).find(({ rule }) => rule === "repair")?.detail).toBe("nothing to repair");
  const server = await healthy.serve(dir);
  try {
    await server.call("POST", `/v1/tasks/${healthy.tasks.running}/cancel`, {});
    await eventually(async () => ((await server.task(healthy.tasks.queued)).state === "done" ? true : null), "done");
  } finally {
    await healthy.stop(server, dir);
  }
  expect(await readGit(join(mirrors, mirror), "cat-file", "-t", tree)).toBe("tree\n");
  expect(broken(await examine(dir))).toEqual([]);
});

it("[W7] what a fetch or a merge of a running server has not finished is left alone", async () => {
  const dir = healthy.copy();
  const mirrors = join(dir, "git", "mirrors");
  const [mirror = ""] = readdirSync(mirrors);
  for (const ending of ["new", "heal", "merge"]) mkdirSync(join(mirrors, `${mirror}.${ending}`));
  writeFileSync(join(mirrors, mirror, "objects/pack/tmp_pack_1"), "half");
  const before = readdirSync(mirrors, { recursive: true });
  await examine(dir);
  expect(readdirSync(mirrors, { recursive: true })).toEqual(before);
  rmSync(dir, { recursive: true });
});

it("[D3] a running task whose sandbox is gone is found while a coordinator holds the folder, and only then", async () => {
  const dir = healthy.copy();
  const { running } = healthy.tasks;
  expect(broken(await examine(dir))).toEqual([]);
  const server = await healthy.serve(dir);
  const workerFile = join(ROOT, "dist/worker.mjs");
  const sandbox = openProcessSandbox({ dir, workerFile, instance: deriveInstanceId(dir) });
  try {
    await eventually(async () => {
      const { attempt, phase } = await server.task(running);
      return attempt === 2 && phase === "working" ? true : null;
    }, "it works again");
    expect(broken(await examine(dir))).toEqual([]);
    // A coordinator that hangs corrects nothing.
    process.kill(server.pid, "SIGSTOP");
    await sandbox.remove(sandboxName(running, 2));
    expect(broken(await examine(dir))).toEqual([
      // It is stopped.
      expect.stringMatching(/^server: .* does not answer/),
      expect.stringMatching(new RegExp(`^D3: .*${running}: attempt 2 runs without a sandbox`)),
    ]);
  } finally {
    process.kill(server.pid, "SIGCONT");
    await healthy.stop(server, dir);
    await sandbox.close();
  }
});
