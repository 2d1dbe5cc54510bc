/**
 * Git smart HTTP on one task repository, with a real git on the other side. What may be pushed is
 * in refs.test.ts.
 */
import { execFile, execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { Agent, createServer, request as httpRequest, type Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { serveGit } from "../../src/broker/git-http.ts";
import { hasPrlimit, withDescriptors } from "../support/process/descriptors.ts";
import { PATIENCE_MS } from "../support/vitest/patience.ts";
import { checkpointRef, WORK_REF } from "../../src/core/ports/repositories.ts";

const ENV = {
  PATH: process.env["PATH"] ?? "",
  HOME: "/nonexistent",
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_TERMINAL_PROMPT: "0",
  GIT_AUTHOR_NAME: "W",
  GIT_AUTHOR_EMAIL: "w@example.com",
  GIT_COMMITTER_NAME: "W",
  GIT_COMMITTER_EMAIL: "w@example.com",
};
const ATTEMPT = 2;
const PACK_LIMIT = 3 * 2 ** 20;

let dir: string;
let repo: string;
let server: Server;
let url: string;
let stop: AbortController;
/** Calls of serveGit that have not come to their end. */
let open: number;

function git(cwd: string, ...args: string[]): string {
  return gitAt(null, cwd, ...args);
}
/** @param second of the commit that is made. */
function gitAt(second: number | null, cwd: string, ...args: string[]): string {
  const env = second === null ? ENV : { ...ENV, GIT_COMMITTER_DATE: `${second} +0000` };
  return execFileSync("git", args, { cwd, env, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
}
/** For what talks to the server in this process. */
function talk(cwd: string, ...args: string[]): Promise<{ ok: boolean; said: string }> {
  return new Promise((resolve) => {
    execFile("git", args, { cwd, env: ENV, timeout: PATIENCE_MS }, (error, stdout, stderr) =>
      resolve({ ok: error === null, said: stdout + stderr }),
    );
  });
}

interface Reply {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}
function call(method: string, path: string, headers: Record<string, string> = {}, body?: Buffer): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(`${url}${path}`, { method, headers, agent: false }, (response) => {
      let text = "";
      response.setEncoding("latin1").on("data", (chunk: string) => (text += chunk));
      response.once("close", () =>
        resolve({ status: response.statusCode ?? 0, type: response.headers["content-type"] ?? "", text }),
      );
      response.once("error", () => undefined);
    });
    request.once("error", reject);
    request.end(body);
  });
}

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-broker-git-"));
  repo = join(dir, "repo.git");
  git(dir, "init", "-q", "-b", "main", "work");
  writeFileSync(join(dir, "work", "a.txt"), "one\n");
  git(join(dir, "work"), "add", "-A");
  git(join(dir, "work"), "commit", "-q", "-m", "First");
  git(dir, "clone", "-q", "--bare", "work", repo);
  stop = new AbortController();
  open = 0;
  server = createServer((request, response) => {
    open += 1;
    void serveGit({
      repoPath: repo,
      attempt: ATTEMPT,
      request,
      response,
      signal: stop.signal,
      packLimit: PACK_LIMIT,
    }).finally(() => (open -= 1));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/git/repo.git`;
});
afterEach(async () => {
  stop.abort();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  // No call may outlive its connection for long.
  await expect.poll(() => open).toBe(0);
  rmSync(dir, { recursive: true, force: true });
});

async function clone(...flags: string[]): Promise<string> {
  const into = join(dir, `clone-${randomBytes(4).toString("hex")}`);
  expect(await talk(dir, ...flags, "clone", "-q", url, into)).toMatchObject({ ok: true });
  return into;
}
function commit(work: string, name: string, content: Buffer | string): string {
  writeFileSync(join(work, name), content);
  git(work, "add", "-A");
  git(work, "commit", "-q", "-m", `Add ${name}`);
  return git(work, "rev-parse", "HEAD");
}

it.runIf(hasPrlimit)("[Y3] without a descriptor for git the answer is 503, and then it serves again", async () => {
  const refs = "/info/refs?service=git-upload-pack";
  // One for each end of the connection.
  const refused = await withDescriptors(2, () => call("GET", refs));
  expect(refused).toMatchObject({ status: 503, text: expect.stringContaining("EMFILE") });
  expect((await call("GET", refs)).status).toBe(200);
});

describe("a real git", () => {
  for (const version of ["0", "1", "2"]) {
    it(`clones with protocol version ${version}, and pushes`, async () => {
      const work = await clone("-c", `protocol.version=${version}`);
      expect(readFileSync(join(work, "a.txt"), "utf8")).toBe("one\n");
      const sha = commit(work, "b.txt", "two\n");
      const pushed = await talk(work, "-c", `protocol.version=${version}`, "push", "-q", "origin", `HEAD:${WORK_REF}`);
      expect(pushed).toEqual({ ok: true, said: "" });
      expect(git(repo, "rev-parse", WORK_REF)).toBe(sha);
    });
  }

  it("fetches what was pushed before, after a long negotiation that it compresses", async () => {
    const work = await clone();
    const tree = git(work, "rev-parse", "HEAD^{tree}");
    // Much that the server does not have makes for many haves.
    let tip = git(work, "rev-parse", "HEAD");
    const now = Math.floor(Date.now() / 1_000);
    for (let i = 0; i < 64; i += 1) tip = gitAt(now + i, work, "commit-tree", tree, "-p", tip, "-m", `local ${i}`);
    git(work, "reset", "-q", "--hard", tip);
    const other = await clone();
    const sha = commit(other, "c.txt", "three\n");
    expect(await talk(other, "push", "-q", "origin", `HEAD:${checkpointRef(ATTEMPT)}`)).toMatchObject({ ok: true });
    let compressed = false;
    server.on("request", (request) => (compressed ||= request.headers["content-encoding"] === "gzip"));
    expect(await talk(work, "fetch", "-q", "origin", `+${checkpointRef(ATTEMPT)}:refs/resume`)).toMatchObject({
      ok: true,
    });
    expect(git(work, "rev-parse", "refs/resume")).toBe(sha);
    expect(compressed).toBe(true);
  });

  it("pushes more than one post buffer, which git sends as a probe and then in chunks", async () => {
    const work = await clone();
    const sha = commit(work, "big.bin", randomBytes(2 * 2 ** 20));
    expect(await talk(work, "push", "-q", "origin", `HEAD:${WORK_REF}`)).toEqual({ ok: true, said: "" });
    expect(git(repo, "rev-parse", WORK_REF)).toBe(sha);
    git(repo, "fsck", "--full", "--strict");
  });

  it("[M10] pushes into a copy of a repository that lacks its empty folders", async () => {
    const work = await clone();
    const empty = join(repo, "objects", "pack");
    // A local clone has the loose objects of its origin.
    expect(readdirSync(empty)).toEqual([]);
    rmSync(empty, { recursive: true });
    const sha = commit(work, "b.txt", "two\n");
    expect(await talk(work, "push", "-q", "origin", `HEAD:${WORK_REF}`)).toEqual({ ok: true, said: "" });
    expect(git(repo, "rev-parse", WORK_REF)).toBe(sha);
  });

  it("[W4] prints the reason when a pack is too large, and leaves nothing of it behind", async () => {
    const work = await clone();
    const sha = commit(work, "huge.bin", randomBytes(6 * 2 ** 20));
    const { ok, said } = await talk(work, "push", "-q", "origin", `HEAD:${WORK_REF}`);
    expect(ok).toBe(false);
    expect(said).toMatch(/exceeds maximum allowed size|unpacker error/);
    expect(() => git(repo, "cat-file", "-e", sha)).toThrow();
    await talk(work, "reset", "-q", "--hard", "HEAD~1");
    const small = commit(work, "small.txt", "fits\n");
    expect(await talk(work, "push", "-q", "origin", `HEAD:${WORK_REF}`)).toMatchObject({ ok: true });
    expect(git(repo, "rev-parse", WORK_REF)).toBe(small);
  });

  it("a refused push of much data ends with the reason, not with a broken pipe", async () => {
    const work = await clone();
    commit(work, "big.bin", randomBytes(2 * 2 ** 20));
    const { ok, said } = await talk(work, "push", "origin", "HEAD:refs/heads/main");
    expect(ok).toBe(false);
    expect(said).toContain(`only ${WORK_REF} and ${checkpointRef(ATTEMPT)} can be pushed`);
    expect(said).toContain("[remote rejected]");
    expect(said).not.toMatch(/hung up|broken pipe|RPC failed/i);
  });

  it("push options and signed pushes are not taken", async () => {
    git(repo, "config", "receive.advertisePushOptions", "true");
    const work = await clone();
    commit(work, "b.txt", "two\n");
    expect(await talk(work, "push", "-o", "ci.skip", "origin", `HEAD:${WORK_REF}`)).toMatchObject({ ok: false });
    expect(() => git(repo, "rev-parse", "--verify", WORK_REF)).toThrow();
  });

  it("[S6] no hook of the repository is run", async () => {
    writeFileSync(join(repo, "hooks", "pre-receive"), `#!/bin/sh\ntouch ${join(dir, "ran")}\nexit 1\n`, {
      mode: 0o755,
    });
    const work = await clone();
    commit(work, "b.txt", "two\n");
    expect(await talk(work, "push", "-q", "origin", `HEAD:${WORK_REF}`)).toMatchObject({ ok: true });
    expect(() => readFileSync(join(dir, "ran"))).toThrow();
  });
});

it.runIf(process.platform === "linux")(
  "[S6] git that serves a worker has bounds of memory and processor time, its helpers too",
  async () => {
    const work = await clone();
    const bounds = join(dir, "bounds");
    // Git runs this in the process of the push, as it does index-pack.
    git(
      repo,
      "config",
      "core.alternateRefsCommand",
      `grep -E "cpu time|address space" /proc/self/limits > ${bounds}; :`,
    );
    writeFileSync(join(repo, "objects", "info", "alternates"), `${join(dir, "work", ".git", "objects")}\n`);
    commit(work, "b.txt", "two\n");
    expect(await talk(work, "push", "-q", "origin", `HEAD:${WORK_REF}`)).toMatchObject({ ok: true });
    expect(readFileSync(bounds, "utf8")).toMatch(/cpu time +600 +605 +seconds\s+Max address space +2147483648 /);
  },
);

describe("[S6] anything else", () => {
  it.each([
    ["GET", "/info/refs"],
    ["GET", "/info/refs?service=git-upload-archive"],
    ["GET", "/info/refs?service=git-upload-pack&service=git-receive-pack"],
    ["POST", "/info/refs?service=git-upload-pack"],
    ["GET", "/HEAD"],
    ["GET", "/config"],
    ["GET", "/objects/info/packs"],
    ["GET", "/git-upload-pack"],
    ["PUT", "/git-receive-pack"],
    ["POST", "/git-upload-archive"],
    ["POST", "/%2e%2e/git-upload-pack"],
    ["GET", "/../../etc/passwd"],
  ])("%s %s is refused in words", async (method, path) => {
    const { status, text } = await call(method, path);
    expect(status).toBe(403);
    expect(text).toMatch(/^slipway: /);
  });

  it("Git LFS is refused with words that its client prints", async () => {
    for (const path of ["/info/lfs/objects/batch", "/.git/info/lfs/objects/batch", "/info/lfs/locks/verify"]) {
      const reply = await call("POST", path, { "content-type": "application/vnd.git-lfs+json" }, Buffer.from("{}"));
      expect([reply.status, reply.type]).toEqual([501, "application/vnd.git-lfs+json"]);
      expect(JSON.parse(reply.text)).toEqual({ message: expect.stringContaining("Git LFS") as string });
    }
  });

  const receive = { "content-type": "application/x-git-receive-pack-request" };
  const line = (text: string): string => (text.length + 4).toString(16).padStart(4, "0") + text;
  const [zero, one] = ["0".repeat(40), "1".repeat(40)];
  it.each([
    ["not a pkt-line", "hello, is this git?"],
    ["a length below five", "0004"],
    ["a length beyond the limit", "ffff"],
    ["an end in the middle", line(`${zero} ${one} ${WORK_REF}\0 report-status`)],
    ["a push certificate", `${line("push-cert\0 report-status\n")}0000`],
    ["push options", `${line(`${zero} ${one} ${WORK_REF}\0 report-status push-options`)}0000`],
    ["10 MB of shallow lines", line(`shallow ${one}`).repeat(190_000)],
    ["a ref with a line feed", `${line(`${zero} ${one} ${WORK_REF}\nrefs/heads/main\0 report-status`)}0000`],
  ])("a push that is %s is refused before git sees it", async (_what, body) => {
    const { status, text } = await call("POST", "/git-receive-pack", receive, Buffer.from(body)).catch(() => ({
      status: 400,
      text: "slipway: cut",
    }));
    expect(status).toBe(400);
    expect(text).toMatch(/^slipway: /);
    expect(git(repo, "for-each-ref", "--format=%(refname)")).toBe("refs/heads/main");
  });

  it.each([
    ["a ref that is not allowed", "refs/heads/main", "can be pushed"],
    ["a pack that is broken at its beginning", WORK_REF, "unpacker error"],
  ])("the sender of %s may finish sending, and then reads why", async (_what, ref, reason) => {
    const pack = Buffer.concat([Buffer.from("PACK\0\0\0\x02\0\0\0\x05", "latin1"), randomBytes(15 * 2 ** 20)]);
    const agent = new Agent({ keepAlive: true });
    let read = (): number => 0;
    server.once("connection", (socket: Socket) => (read = () => socket.bytesRead));
    const request = httpRequest(`${url}/git-receive-pack`, { method: "POST", headers: receive, agent });
    const answered = new Promise<string>((resolve, reject) => {
      request.once("error", reject).once("response", (response) => {
        let text = "";
        response.setEncoding("latin1").on("data", (chunk: string) => (text += chunk));
        response.once("end", () => resolve(text));
      });
    });
    request.write(`${line(`${zero} ${one} ${ref}\0 report-status side-band-64k`)}0000`);
    request.end(pack);
    expect(await answered).toContain(reason);
    await expect.poll(read).toBeGreaterThan(pack.length);
    agent.destroy();
  });

  it("an encoded push, a wrong content type", async () => {
    const encoded = await call(
      "POST",
      "/git-receive-pack",
      { ...receive, "content-encoding": "gzip" },
      gzipSync("0000"),
    );
    expect(encoded.status).toBe(415);
    expect((await call("POST", "/git-upload-pack", { "content-type": "text/plain" }, Buffer.from("0000"))).status).toBe(
      415,
    );
  });

  it("a small body that unpacks to gigabytes is cut off", async () => {
    const want = `0032want ${git(repo, "rev-parse", "HEAD")}\n0000`;
    const haves = (bytes: number): Buffer =>
      Buffer.alloc(bytes - (bytes % 50), "0032have 1111111111111111111111111111111111111111\n");
    const bomb = gzipSync(Buffer.concat([Buffer.from(want), haves(100 * 2 ** 20), Buffer.from("0000")]));
    const honest = gzipSync(Buffer.concat([Buffer.from(want), haves(2 ** 20), Buffer.from("0000")]));
    const headers = { "content-type": "application/x-git-upload-pack-request", "content-encoding": "gzip" };
    expect((await call("POST", "/git-upload-pack", headers, honest)).text).toBe("0008NAK\n");
    expect((await call("POST", "/git-upload-pack", headers, bomb).catch(() => null))?.text ?? "").toBe("");
    expect((await call("GET", "/info/refs?service=git-upload-pack")).status).toBe(200);
  });
});

it.runIf(process.platform === "linux")(
  "[S3] a push under way ends when the attempt does, and leaves no ref and no process",
  async () => {
    const work = await clone();
    const sha = commit(work, "b.txt", "two\n");
    const request = httpRequest(`${url}/git-receive-pack`, {
      method: "POST",
      agent: false,
      headers: { "content-type": "application/x-git-receive-pack-request" },
    });
    const ended = new Promise((resolve) =>
      request.once("error", resolve).once("response", (response) => response.resume().once("close", resolve)),
    );
    const command = `${"0".repeat(40)} ${sha} ${WORK_REF}\0 report-status`;
    request.write(`${(command.length + 4).toString(16).padStart(4, "0")}${command}0000PACK\0\0\0\x02\0\0\0\x05`);
    // Git's helpers do not name the repository, but work in it.
    const receiving = (): string[] =>
      readdirSync("/proc").filter((pid) => {
        try {
          return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/cwd`) === repo;
        } catch {
          return false;
        }
      });
    await expect.poll(() => receiving().length).toBeGreaterThanOrEqual(2);
    stop.abort();
    await ended;
    await expect.poll(() => [open, receiving()]).toEqual([0, []]);
    expect(() => git(repo, "rev-parse", "--verify", WORK_REF)).toThrow();
  },
);
