/**
 * Git smart HTTP on one task repository (gitprotocol-http(5)): the only remote that a worker ever
 * sees. And `/pack?want=<commit>`, everything that leads to the named commits as one pack, which is
 * how a worker gets its checkout (decision 025). The listener has authenticated the caller; what
 * may be pushed is decided here, before git reads a byte.
 */
import { spawn } from "node:child_process";
import { readdir, stat } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { checkRefUpdates, formatRejection } from "./receive-pack.ts";
import { checkpointRef, WORK_REF } from "../core/ports/repositories.ts";

export interface GitRequest {
  /** The bare task repository. */
  readonly repoPath: string;
  readonly attempt: number;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Ends git and the answer. */
  readonly signal: AbortSignal;
  /** Largest pack that a push may hold, bytes. */
  readonly packLimit?: number;
  /** Most that all pushes of a task may add, bytes. Nothing is collected before the task's end. */
  readonly repoLimit?: number;
}

const PREFIX = "/git/repo.git/";
const PACK_LIMIT = 512 * 2 ** 20;
const REPO_LIMIT = 2 * 2 ** 30;
/** What may come beside the pack itself. */
const SLACK = 16 * 2 ** 20;
/** What a fetch may say of its wants and haves, unpacked. */
const UPLOAD_LIMIT = 64 * 2 ** 20;
/** Commits that one pack leads to: the base, and the work that is gone on from. */
const WANTS = 2;
const COMMIT = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
const SERVICES = ["git-upload-pack", "git-receive-pack"] as const;
type Service = (typeof SERVICES)[number];

/** Resolves when the answer is sent, whatever it is; never rejects. */
export async function serveGit(call: GitRequest): Promise<void> {
  const { request, response } = call;
  const url = new URL(request.url ?? "/", "http://broker");
  const path = url.pathname.startsWith(PREFIX) ? url.pathname.slice(PREFIX.length) : "";
  if (path.startsWith("info/lfs") || path.includes("/lfs/")) return refuseLfs(response);
  const service = SERVICES.find((one) => path === one);
  if (request.method === "GET" && path === "pack") return pack(call, url.searchParams.getAll("want"));
  if (request.method === "GET" && path === "info/refs") {
    const asked = url.searchParams.getAll("service");
    const named = SERVICES.find((one) => asked.length === 1 && one === asked[0]);
    return named === undefined
      ? refuse(response, 403, "Only the smart HTTP protocol is served here.")
      : advertise(call, named);
  }
  if (request.method !== "POST" || service === undefined)
    return refuse(response, 403, "Only the smart HTTP protocol is served here.");
  if (request.headers["content-type"] !== `application/x-${service}-request`)
    return refuse(response, 415, "This is not a git request.");
  return service === "git-upload-pack" ? upload(call) : receive(call);
}

function refuse(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8", "cache-control": "no-cache" });
  response.end(`slipway: ${text}\n`);
}

/** The words that git-lfs prints (git-lfs docs/api/batch.md, "Response Errors"). */
function refuseLfs(response: ServerResponse): void {
  response.writeHead(501, { "content-type": "application/vnd.git-lfs+json" });
  response.end(
    JSON.stringify({ message: "Slipway does not serve Git LFS: files kept in LFS stay pointers in this workspace." }),
  );
}

/**
 * What git may use of this machine for one request of a worker: one thread, and 2 GiB of address
 * space, because a few hundred bytes of deltas can stand for a file of any size. Larger files are
 * streamed.
 */
const BOUNDED = 'ulimit -v 2097152 2>/dev/null; exec git "$@"';
const MODEST = [
  "pack.threads=1",
  "core.bigFileThreshold=32m",
  "core.packedGitWindowSize=32m",
  "core.packedGitLimit=256m",
];

/** A process group of its own: git's helpers (index-pack, pack-objects) go when it goes. */
function run({ repoPath, request, packLimit = PACK_LIMIT }: GitRequest, ...args: string[]) {
  const protocol = request.headers["git-protocol"];
  const fixed = ["core.hooksPath=/dev/null", "gc.auto=0", `receive.maxInputSize=${packLimit}`, ...MODEST];
  const settings = fixed.flatMap((one) => ["-c", one]);
  return spawn("/bin/sh", ["-c", BOUNDED, "git", ...settings, ...args], {
    cwd: repoPath,
    detached: true,
    stdio: ["pipe", "pipe", "ignore"],
    env: {
      PATH: process.env["PATH"] ?? "/usr/bin:/bin",
      HOME: "/nonexistent",
      LC_ALL: "C",
      GIT_CONFIG_NOSYSTEM: "1",
      GIT_CONFIG_GLOBAL: "/dev/null",
      GIT_NO_REPLACE_OBJECTS: "1",
      ...(typeof protocol === "string" && /^version=[012]$/.test(protocol) ? { GIT_PROTOCOL: protocol } : {}),
    },
  });
}

const start = (call: GitRequest, service: Service, ...flags: string[]) =>
  run(call, service.slice("git-".length), "--stateless-rpc", ...flags, call.repoPath);

type Child = ReturnType<typeof run>;

function end(child: Child): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, "SIGTERM");
  } catch {
    // The group is gone: nothing is left to end.
  }
}

/** Streams git's answer; resolves when git and the connection are done with. */
async function answer(child: Child, call: GitRequest, type: string, preface?: Buffer): Promise<void> {
  const { response, signal } = call;
  response.writeHead(200, { "content-type": type, "cache-control": "no-cache" });
  if (preface !== undefined) response.write(preface);
  child.stdin.on("error", () => undefined);
  child.stdout.pipe(response);
  const closed = new Promise<void>((resolve) => {
    child.once("close", () => resolve());
    child.on("error", () => {
      response.destroy();
      resolve();
    });
  });
  const onAbort = (): void => void response.destroy();
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  await new Promise<void>((resolve) => (response.closed ? resolve() : response.once("close", resolve)));
  signal.removeEventListener("abort", onAbort);
  end(child);
  child.stdout.destroy();
  child.stdin.destroy();
  await closed;
}

function advertise(call: GitRequest, service: Service): Promise<void> {
  const child = start(call, service, "--http-backend-info-refs");
  child.stdin.end();
  const head = `# service=${service}\n`;
  const preface = Buffer.from(`${(head.length + 4).toString(16).padStart(4, "0")}${head}0000`);
  // Version 2 has no such preface for fetches.
  const plain = service === "git-upload-pack" && call.request.headers["git-protocol"] === "version=2";
  return answer(child, call, `application/x-${service}-advertisement`, plain ? undefined : preface);
}

/**
 * The answer begins with git's first byte, so that a commit that is not there is refused in words,
 * and a pack without its end is seen to be none.
 */
async function pack(call: GitRequest, wants: readonly string[]): Promise<void> {
  if (wants.length === 0 || wants.length > WANTS || !wants.every((want) => COMMIT.test(want)))
    return refuse(call.response, 400, `Name one to ${WANTS} commits: ?want=<40 or 64 hexadecimal digits>.`);
  const child = run(call, "pack-objects", "--revs", "--stdout", "--delta-base-offset", "--quiet");
  child.on("error", () => undefined);
  child.stdin.on("error", () => undefined).end(`${wants.join("\n")}\n`);
  const first = await firstBytes(child, call);
  if (first !== null) return answer(child, call, "application/x-git-pack", first);
  end(child);
  refuse(call.response, 404, "The repository has no such commit.");
}

/** @returns null when git ends without a word, or nobody waits for it any more. */
function firstBytes({ stdout }: Child, { response, signal }: GitRequest): Promise<Buffer | null> {
  return new Promise((resolve) => {
    const none = (): void => resolve(null);
    response.once("close", none);
    signal.addEventListener("abort", none, { once: true });
    stdout.once("close", none).once("data", (bytes: Buffer) => {
      stdout.pause();
      response.off("close", none);
      signal.removeEventListener("abort", none);
      resolve(bytes);
    });
  });
}

function upload(call: GitRequest): Promise<void> {
  const { request } = call;
  const body: Readable = request.headers["content-encoding"] === "gzip" ? request.pipe(createGunzip()) : request;
  const child = start(call, "git-upload-pack");
  const done = answer(child, call, "application/x-git-upload-pack-result");
  feed(child, body, UPLOAD_LIMIT);
  return done;
}

async function receive(call: GitRequest): Promise<void> {
  const { request, response, attempt, packLimit = PACK_LIMIT, repoLimit = REPO_LIMIT } = call;
  const type = "application/x-git-receive-pack-result";
  if (request.headers["content-encoding"] !== undefined)
    return refuse(response, 415, "A push is sent as it is, without an encoding.");
  const { bytes, judgement } = await readHead(request, new Set([WORK_REF, checkpointRef(attempt)]));
  switch (judgement.kind) {
    case "more":
    case "malformed":
      return refuse(response, 400, judgement.kind === "more" ? "The push ended too early." : `${judgement.why}.`);
    case "refused":
      // The pack must be read before the answer, or git sees a broken pipe instead of the reason.
      await drain(request, packLimit + SLACK);
      response.writeHead(200, { "content-type": type, "cache-control": "no-cache" });
      return void response.end(formatRejection(judgement.commands, judgement.why));
    case "allowed": {
      const room = repoLimit - (await packBytes(call.repoPath));
      if (room <= 0) {
        await drain(request, packLimit + SLACK);
        response.writeHead(200, { "content-type": type, "cache-control": "no-cache" });
        return void response.end(
          formatRejection(judgement.commands, `this task has pushed ${repoLimit} bytes, which is the limit`),
        );
      }
      const child = start({ ...call, packLimit: Math.min(packLimit, room) }, "git-receive-pack");
      const done = answer(child, call, type);
      child.stdin.write(bytes);
      // Git itself refuses what is too large, in words; past that the connection is cut.
      feed(child, request, packLimit + SLACK);
      return done;
    }
  }
}

/**
 * What the repository holds by itself: everything that was pushed, because the rest is borrowed.
 */
async function packBytes(repoPath: string): Promise<number> {
  const dir = join(repoPath, "objects", "pack");
  const sizes = (await readdir(dir)).map(async (name) => (await stat(join(dir, name))).size);
  return (await Promise.all(sizes)).reduce((total, size) => total + size, 0);
}

/** Reads until the commands are known. */
async function readHead(request: IncomingMessage, allowed: ReadonlySet<string>) {
  let bytes = Buffer.alloc(0);
  let judgement = checkRefUpdates(bytes, allowed);
  while (judgement.kind === "more") {
    const chunk = await nextChunk(request);
    if (chunk === null) break;
    bytes = Buffer.concat([bytes, chunk]);
    judgement = checkRefUpdates(bytes, allowed);
  }
  return { bytes, judgement };
}

function nextChunk(request: IncomingMessage): Promise<Buffer | null> {
  return new Promise((resolve) => {
    const look = (): void => {
      const chunk = request.read() as Buffer | null;
      if (chunk === null && !request.readableEnded && !request.destroyed) return;
      for (const name of ["readable", "end", "close"] as const) request.off(name, look);
      resolve(chunk);
    };
    for (const name of ["readable", "end", "close"] as const) request.on(name, look);
    look();
  });
}

/** Resolves when the body has been read to its end, or its sender is gone. */
async function drain(request: IncomingMessage, limit: number): Promise<void> {
  let bytes = 0;
  request.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > limit) request.destroy();
  });
  if (!request.readableEnded && !request.destroyed) {
    await new Promise((resolve) => request.once("close", resolve).once("end", resolve));
  }
}

/**
 * The body into git, at git's pace. When git has stopped reading (it has refused the pack, say),
 * the rest is read and dropped, so that the sender gets to see the answer.
 */
function feed(child: Child, body: Readable, limit: number): void {
  let bytes = 0;
  let listening = true;
  const deaf = (): void => {
    listening = false;
    body.resume();
  };
  child.stdin
    .on("error", deaf)
    .on("close", deaf)
    .on("drain", () => body.resume());
  body.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > limit) {
      end(child);
      body.destroy();
    } else if (listening && !child.stdin.write(chunk)) body.pause();
  });
  if (body.readableEnded) child.stdin.end();
  body.once("end", () => child.stdin.end());
  body.once("error", () => end(child));
}
