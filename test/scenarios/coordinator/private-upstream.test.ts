/**
 * A private upstream: a real git server, a real coordinator process, real workers, the credential
 * stored through the API.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { eventually, startServer, type RealServer } from "../../support/process/server.ts";

const TOKEN = "gh0_S3cr3t/Token+0123456789";
let upstream: GitServer;
let server: RealServer;
let dir: string;
let repo: { url: string; path: string; sha: string };

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-private-"));
  upstream = await startGitServer({ auth: { username: "x-access-token", password: TOKEN } });
  repo = upstream.createRepo("private", { "README.md": "# Private\n" });
  server = await startServer({
    dataDir: join(dir, "data"),
    env: { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host, SLIPWAY_LOG_LEVEL: "debug" },
  });
});
afterAll(async () => {
  await server.kill("SIGTERM");
  await upstream.close();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});

const settled = (id: string): Promise<WireTask> =>
  eventually(async () => {
    const task = await server.task(id);
    return task.settledAt === null ? null : task;
  }, `task ${id} settles`);
const submit = async (script: readonly object[]): Promise<string> => {
  const { status, body } = await server.call("POST", "/v1/tasks", { repo: repo.url, prompt: "Change it.", script });
  expect(status).toBe(201);
  return (body as WireTask).id;
};
const storeCredential = (token: string) =>
  server.call("POST", "/v1/credentials", { host: upstream.host, kind: "token", token });

interface Process {
  readonly pid: number;
  readonly commandLine: string;
  /** Empty for a process of another user. */
  readonly environment: string;
}

/** Every process of the machine. */
function listProcesses(): Process[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    const read = (file: string): string => readFileSync(`/proc/${name}/${file}`, "utf8").replaceAll("\0", " ");
    try {
      const commandLine = read("cmdline");
      let environment = "";
      try {
        environment = read("environ");
      } catch {
        // Another user's.
      }
      return [{ pid: Number(name), commandLine, environment }];
    } catch {
      return []; // It has ended since the folder was listed.
    }
  });
}

/** The forms in which the credential could leak. */
const FORMS = [
  TOKEN,
  encodeURIComponent(TOKEN),
  Buffer.from(TOKEN).toString("base64"),
  Buffer.from(`x-access-token:${TOKEN}`).toString("base64"),
];

/** Every file under a folder, with its content. */
function* contents(root: string): Iterable<[string, Buffer]> {
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = join(entry.parentPath, entry.name);
    try {
      yield [file, readFileSync(file)];
    } catch {
      // Removed since the folder was listed, as a worker's temporary files are.
    }
  }
}

describe("a private repository", () => {
  it("a missing or wrong credential ends in repo_auth with advice, before any sandbox starts", async () => {
    for (const credential of [null, "wrong"]) {
      if (credential !== null) await storeCredential(credential);
      const task = await settled(await submit([{ bash: "true" }]));
      expect(task).toMatchObject({
        state: "failed",
        failure: { code: "repo_auth", stage: "provisioning", retryable: false },
      });
      expect(task.failure?.advice).toMatch(/credential/);
      const { body } = await server.call("GET", `/v1/tasks/${task.id}/events`);
      expect(JSON.stringify(body)).not.toContain('"container"');
    }
  });

  it("[S1] with the credential the branch is pushed; the secret is in the environment of the coordinator's git and nowhere else", async () => {
    expect((await storeCredential(TOKEN)).status).toBe(201);
    // Holds the push open until the processes were listed.
    const proceed = join(dir, "proceed");
    upstream.hook("private", "pre-receive", `while [ ! -e '${proceed}' ]; do sleep 0.05; done`);
    const inspect = "env; cat /proc/self/environ | tr '\\0' '\\n'; git config --list --show-origin; cat .git/config";
    const id = await submit([
      { bash: inspect },
      { bash: "echo changed > change.txt" },
      { finish: { title: "Change it", summary: "Changed." } },
    ]);
    // Positive control: the list was taken while a git process held the credential.
    const processes = await eventually(() => {
      const listed = listProcesses();
      const isPush = ({ commandLine, environment }: Process): boolean =>
        environment.includes(TOKEN) && /\bgit\b.* push /.test(commandLine);
      return Promise.resolve(listed.some(isPush) ? listed : null);
    }, "a git process pushes with the credential");
    for (const { commandLine, environment } of processes) {
      for (const form of FORMS) expect(commandLine).not.toContain(form);
      if (environment.includes(TOKEN)) expect(commandLine).toMatch(/\bgit\b/);
    }
    writeFileSync(proceed, "");
    const task = await settled(id);
    expect(task).toMatchObject({ state: "done", outcome: "pushed" });
    expect(upstream.git("private", "rev-parse", `refs/heads/${task.branch}`)).toBe(task.headSha);
    expect(upstream.git("private", "show", `${task.branch}:change.txt`)).toBe("changed");
    const events = JSON.stringify(await server.events(id));
    expect(events).toContain("GIT_");
    for (const form of FORMS) {
      expect(events).not.toContain(form);
      expect(server.stderr()).not.toContain(form);
      for (const [file, bytes] of contents(dir)) expect(bytes.includes(form), file).toBe(false);
    }
  });

  it("the diff is available after the worker has ended, as JSON and as a patch", async () => {
    const { body } = await server.call("GET", "/v1/tasks?state=done&limit=1");
    const task = (body as { items: WireTask[] }).items[0];
    const diff = await server.call("GET", `/v1/tasks/${task?.id}/diff`);
    expect(diff.body).toMatchObject({
      base: repo.sha,
      head: task?.headSha,
      files: [{ path: "change.txt", status: "added", additions: 1 }],
    });
    const patch = await server.call("GET", `/v1/tasks/${task?.id}/diff?format=patch`);
    expect(patch.body).toContain("+changed");
  });

  it("[S4] the upstream gets exactly one branch, although the worker created several branches and tags", async () => {
    const refs = (): string[] => upstream.git("private", "for-each-ref", "--format=%(refname)").split("\n");
    const before = refs();
    const id = await submit([
      {
        bash: "echo more > more.txt && git add -A && git commit -qm more && git tag v9 && git branch extra && git branch main HEAD",
      },
      { bash: "git remote add upstream " + repo.url + "; git push upstream --all; git push upstream --tags; true" },
      { finish: { title: "More", summary: "More." } },
    ]);
    const task = await settled(id);
    expect(task).toMatchObject({ state: "done", outcome: "pushed" });
    expect(refs().toSorted()).toEqual([...before, `refs/heads/${task.branch}`].toSorted());
    expect(upstream.git("private", "rev-parse", "refs/heads/main")).toBe(repo.sha);
    expect(upstream.git("private", "rev-parse", `refs/heads/${task.branch}`)).toBe(task.headSha);
  });
});
