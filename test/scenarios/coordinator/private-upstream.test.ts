/**
 * A private upstream on a server of its own: a real coordinator process, real workers, the
 * credential given through the API.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
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
const give = (token: string) => server.call("POST", "/v1/credentials", { host: upstream.host, kind: "token", token });

/** Every file under a folder, with what is in it. */
function* contents(root: string): Iterable<[string, Buffer]> {
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = join(entry.parentPath, entry.name);
    try {
      yield [file, readFileSync(file)];
    } catch {
      // A worker's scratch file that is gone again.
    }
  }
}

describe("a private repository", () => {
  it("without or with a wrong credential ends in repo_auth with advice, before any sandbox starts", async () => {
    for (const credential of [null, "wrong"]) {
      if (credential !== null) await give(credential);
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

  it("[S1] with the credential the branch is upstream, and the secret is nowhere a worker or a reader can look", async () => {
    expect((await give(TOKEN)).status).toBe(201);
    const look = "env; cat /proc/self/environ | tr '\\0' '\\n'; git config --list --show-origin; cat .git/config";
    const id = await submit([
      { bash: look },
      { bash: "echo changed > change.txt" },
      { wait: 1_500 },
      { finish: { title: "Change it", summary: "Changed." } },
    ]);
    await eventually(async () => ((await server.task(id)).state === "running" ? true : null), "the worker runs");
    await delay(300);
    const processes = execFileSync("ps", ["-eo", "args"], { encoding: "utf8" });
    const task = await settled(id);
    expect(task).toMatchObject({ state: "done", outcome: "pushed" });
    expect(upstream.git("private", "rev-parse", `refs/heads/${task.branch}`)).toBe(task.headSha);
    expect(upstream.git("private", "show", `${task.branch}:change.txt`)).toBe("changed");
    const forms = [
      TOKEN,
      encodeURIComponent(TOKEN),
      Buffer.from(TOKEN).toString("base64"),
      Buffer.from(`x-access-token:${TOKEN}`).toString("base64"),
    ];
    const events = JSON.stringify(await server.events(id));
    expect(events).toContain("GIT_");
    for (const form of forms) {
      expect(processes).not.toContain(form);
      expect(events).not.toContain(form);
      expect(server.stderr()).not.toContain(form);
      for (const [file, bytes] of contents(dir)) expect(bytes.includes(form), file).toBe(false);
    }
  });

  it("the diff is there when the worker is gone, as JSON and as a patch that applies", async () => {
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

  it("[S4] the upstream gets exactly one branch, whatever the worker has made", async () => {
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
