/**
 * Items 1-27 of the hostile inputs against the API of a real server: refused with a code, without a
 * process started or a row stored, and the server goes on.
 */
import { readdirSync, readFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { HOSTILE_ADDRESSES, HOSTILE_BRANCHES } from "../../support/hostile/inputs.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { eventually, startServer, type RealServer } from "../../support/process/server.ts";

let upstream: GitServer;
let server: RealServer;
let dir: string;
let repo: string;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-hostile-"));
  upstream = await startGitServer();
  repo = upstream.createRepo("app").url;
  server = await startServer({ dataDir: join(dir, "data"), env: { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host } });
});
afterAll(async () => {
  await server.kill("SIGTERM");
  await upstream.close();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});

/** Children of the server, and their children. */
function descendants(): number {
  const parents = new Map<number, number>();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      parents.set(Number(pid), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
    } catch {
      // It has ended.
    }
  }
  const isDescendant = (pid: number | undefined): boolean =>
    pid !== undefined && pid > 1 && (pid === server.pid || isDescendant(parents.get(pid)));
  return [...parents.values()].filter(isDescendant).length;
}

it.runIf(process.platform === "linux")(
  "[S6] addresses and branches of every hostile kind get 400 with their code; nothing is started or stored",
  async () => {
    const before = upstream.requests.length;
    for (const [, address] of HOSTILE_ADDRESSES) {
      const { status, body } = await server.call("POST", "/v1/tasks", { repo: address, prompt: "x" });
      expect([address.slice(0, 50), status, (body as { code: string }).code]).toEqual([
        address.slice(0, 50),
        400,
        "invalid_repository",
      ]);
      expect(JSON.stringify(body)).not.toContain("s3cr3t-tok");
    }
    for (const field of ["branch", "base"]) {
      for (const name of HOSTILE_BRANCHES) {
        const { status, body } = await server.call("POST", "/v1/tasks", { repo, prompt: "x", [field]: name });
        expect([name.slice(0, 50), status, (body as { code: string }).code]).toEqual([
          name.slice(0, 50),
          400,
          "invalid_branch",
        ]);
      }
    }
    expect(descendants()).toBe(0);
    expect(upstream.requests.length).toBe(before);
    expect((await server.call("GET", "/v1/tasks")).body).toMatchObject({ items: [] });
    expect(server.stderr()).not.toContain("s3cr3t-tok");
    expect((await server.call("GET", "/healthz")).status).toBe(200);
  },
);

it("[S6] (27) a base branch that does not exist fails the task with its own code, and the server goes on", async () => {
  const { body } = await server.call("POST", "/v1/tasks", { repo, prompt: "x", base: "nowhere" });
  const task = await eventually(async () => {
    const now = await server.task((body as WireTask).id);
    return now.settledAt === null ? null : now;
  }, "it settles");
  expect(task).toMatchObject({ state: "failed", failure: { code: "branch_not_found", stage: "provisioning" } });
});

it("[S6] (55) control characters in a title are refused, and those of a prompt are escaped in the log", async () => {
  const title = await server.call("POST", "/v1/tasks", { repo, prompt: "x", title: "a\r\nINFO forged\u001b[2J" });
  expect(title).toMatchObject({ status: 400, body: { code: "invalid_request" } });
  await server.call("POST", "/v1/tasks", { repo: "nonsense", prompt: "a\r\nforged-line\u001b[2J" });
  expect(server.stderr()).not.toContain("\nforged-line");
  expect(server.stderr()).not.toContain("\u001b[2J");
});
