/**
 * What a checkout begins with: one pack of a task repository, fed to a real git, also when it is
 * cut off on the way.
 */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, request, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { afterEach, beforeEach, expect, it } from "vitest";
import { serveGit } from "../../src/broker/git-http.ts";
import type { WorkerSpec } from "../../src/core/protocol/worker.ts";
import { Checkout } from "../../worker/workspace/checkout.ts";
import { Unreachable } from "../../worker/workspace/workspace.ts";
import { fetchPack } from "../../worker/connection/pack.ts";
import { git } from "../support/repository.ts";
import { GitError } from "../../src/core/lib/git/git-error.ts";
import { git as workerGit } from "../../worker/workspace/git.ts";

const never = new AbortController().signal;

let dir: string;
let repo: string;
let server: Server;
let stop: AbortController;
let open: number;
/** Cuts the connection after a given number of response bytes. */
let cutAfter: number;
/** Time that each chunk of a response takes, ms. */
let chunkMs: number;
/** What the server says about the task's base. */
let isDamaged: boolean;
let source: { url: string; authorization: string };

async function commit(name: string, size: number): Promise<string> {
  // What packs badly, so that there is something to cut.
  writeFileSync(join(dir, "work", name), randomBytes(size));
  await git(join(dir, "work"), "add", "-A");
  await git(join(dir, "work"), "commit", "-q", "-m", name);
  await git(join(dir, "work"), "push", "-q", repo, "HEAD:main");
  return await git(join(dir, "work"), "rev-parse", "HEAD");
}

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-pack-"));
  repo = join(dir, "repo.git");
  await git(dir, "init", "-q", "-b", "main", "work");
  await git(dir, "init", "-q", "--bare", "-b", "main", repo);
  [stop, open, cutAfter] = [new AbortController(), 0, Infinity];
  [chunkMs, isDamaged] = [0, false];
  server = createServer((asked, response) => {
    open += 1;
    let sent = 0;
    let written = Promise.resolve();
    const write = response.write.bind(response);
    const end = response.end.bind(response);
    response.end = ((...args: []) => {
      void written.then(() => end(...args));
      return response;
    }) as typeof response.end;
    response.write = ((chunk: Buffer) => {
      sent += chunk.length;
      if (sent <= cutAfter && chunkMs === 0) return write(chunk);
      if (sent <= cutAfter) {
        // Written later, so that the socket's own "drain" does not hurry the sender.
        written = written.then(() => delay(chunkMs)).then(() => void (write(chunk), response.emit("drain")));
        return false;
      }
      response.destroy();
      return false;
    }) as typeof response.write;
    const isBaseUnreadable = (): Promise<boolean> => Promise.resolve(isDamaged);
    void serveGit({
      repoPath: repo,
      attempt: 1,
      request: asked,
      response,
      signal: stop.signal,
      isBaseUnreadable,
    }).finally(() => (open -= 1));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  source = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/git/repo.git`,
    authorization: "Basic eA==",
  };
});
afterEach(async () => {
  stop.abort();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await expect.poll(() => open).toBe(0);
  rmSync(dir, { recursive: true, force: true });
});

async function empty(name: string): Promise<string> {
  await git(dir, "init", "-q", name);
  return join(dir, name);
}
async function take(into: string, ...commits: string[]): Promise<void> {
  await workerGit(["index-pack", "--stdin"], { cwd: into, input: await fetchPack(source, commits, never) });
}
async function call(query: string): Promise<{ status: number; text: string }> {
  const asked = request(`${source.url}/pack${query}`).end();
  const [answer] = (await once(asked, "response")) as [IncomingMessage];
  return { status: answer.statusCode ?? 0, text: (await buffer(answer)).toString("latin1") };
}

it("everything that leads to the named commits, and nothing else", async () => {
  const first = await commit("a", 10);
  const second = await commit("b", 10);
  const third = await commit("c", 10);
  await git(repo, "update-ref", "refs/heads/main", second);
  const into = await empty("one");
  await take(into, second);
  expect((await git(into, "log", "--format=%H", second)).split("\n")).toEqual([second, first]);
  await expect(git(into, "cat-file", "-e", third)).rejects.toThrow();
  // No ref leads to the third any more; it is still served by its SHA.
  const both = await empty("two");
  await take(both, first, third);
  expect(await git(both, "fsck", "--full", "--strict", third)).toBe("");
});

it.each([
  ["no commit", "", 400],
  ["five", `?${[..."abcde"].map((digit) => `want=${digit.repeat(40)}`).join("&")}`, 400],
  ["a branch", "?want=main", 400],
  ["an option", "?want=--all", 400],
  ["a line more", `?want=${"a".repeat(40)}%0a--all`, 400],
  ["a commit that is not there", `?want=${"a".repeat(40)}`, 404],
])("[S6] %s is refused", async (_name, query, status) => {
  await commit("a", 10);
  const answer = await call(query);
  expect(answer.status).toBe(status);
  expect(answer.text).toMatch(/^slipway: /);
});

it("the worker does not retry a refused request", async () => {
  await commit("a", 10);
  const refused = fetchPack(source, ["a".repeat(40)], never);
  await expect(refused).rejects.toBeInstanceOf(Unreachable);
  await expect(refused).rejects.toMatchObject({
    lost: false,
    output: expect.stringContaining("no such commit") as string,
  });
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await expect(fetchPack(source, ["a".repeat(40)], never)).rejects.toMatchObject({ lost: true });
});

it("[W2] a pack that is cut off anywhere is none, and the next one is whole", async () => {
  const sha = await commit("a", 400_000);
  const into = await empty("cut");
  for (const bytes of [0, 1_000, 200_000, 390_000]) {
    cutAfter = bytes;
    const failed = await take(into, sha).then(
      () => null,
      (error: unknown) => error,
    );
    const output = failed instanceof GitError || failed instanceof Unreachable ? failed.output : "";
    expect(new Unreachable("", null, output).lost, output).toBe(true);
    await expect(git(into, "cat-file", "-e", sha)).rejects.toThrow();
  }
  cutAfter = Infinity;
  await take(into, sha);
  expect(await git(into, "fsck", "--full", sha)).toBe("");
});

it("[S6] a client that stops reading gets no more data, and git ends with its connection", async () => {
  const sha = await commit("a", 8_000_000);
  const asked = request(`${source.url}/pack?want=${sha}`).end();
  const [answer] = (await once(asked, "response")) as [IncomingMessage];
  answer.pause();
  await expect.poll(() => open).toBe(1);
  asked.destroy();
  await expect.poll(() => open).toBe(0);
});

it("[W7] objects that are missing on the server are named as such, at the first try", async () => {
  const sha = await commit("a", 10);
  rmSync(join(repo, "objects"), { recursive: true });
  await expect(fetchPack(source, [sha], never)).rejects.toThrow(Unreachable);
  isDamaged = true;
  await expect(fetchPack(source, [sha], never)).rejects.toMatchObject({ name: "TaskFailure", code: "repo_incomplete" });
});

it("[W7] a slow checkout reports its progress while bytes arrive", async () => {
  const baseSha = await commit("a", 4_000_000);
  chunkMs = 50;
  const root = join(dir, "checkout");
  const checkout = new Checkout({ root, stateDir: join(dir, "state"), ...source });
  mkdirSync(join(dir, "state"));
  const lines: string[] = [];
  const spec = {
    taskId: "task_a1",
    attempt: 1,
    base: "main",
    baseSha,
    resume: null,
    setup: [],
  } as unknown as WorkerSpec;
  await checkout.open(spec, never, (text) => lines.push(text));
  expect(lines[0]).toMatch(/^Receiving objects: +\d+% .*[KM]iB/);
  expect(await git(root, "rev-parse", "HEAD")).toBe(baseSha);
});
