/**
 * Git smart HTTP on one task repository (gitprotocol-http(5)), the only git remote of a worker, and
 * `/pack?want=<commit>`: all objects reachable from the named commits as one pack, from which a
 * worker creates its checkout (decision 025). The listener has authenticated the caller. Ref
 * updates are checked here, before git reads a byte of a push.
 */
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readdir, rm, stat } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { ProcessStartError, signalGroup, startProcess, type Child } from "../core/lib/runtime/process-group.ts";
import { checkRefUpdates, formatRejection, type RefCommand } from "./receive-pack.ts";
import { KeyedMutex } from "../core/lib/concurrency/keyed-mutex.ts";
import { PUSH_LATER, REPOSITORY_INCOMPLETE } from "../core/protocol/worker.ts";
import type { PushSpace } from "./push-space.ts";
import { checkpointRef, WORK_REF } from "../core/ports/repositories.ts";

export interface GitRequest {
  /** The bare task repository. */
  readonly repoPath: string;
  readonly attempt: number;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** True when the task's base cannot be read in full. Must not reject. */
  readonly isBaseUnreadable?: () => Promise<boolean>;
  /** Aborting it ends git and the answer. */
  readonly signal: AbortSignal;
  /** Largest pack of a push, bytes. */
  readonly packLimit?: number;
  /**
   * Limit for all packs that a task pushes, bytes. The repository is not garbage-collected before
   * the task ends.
   */
  readonly repoLimit?: number;
  /** Of all tasks together; absent = the space on the disk is not looked at. */
  readonly space?: PushSpace;
}

/** By repository: each push sees what the earlier ones left of the task's limit. */
const pushes = new KeyedMutex();
const PREFIX = "/git/repo.git/";
const PACK_LIMIT = 512 * 2 ** 20;
const REPO_LIMIT = 2 * 2 ** 30;
/** Bytes of a push request beside the pack: ref updates and framing. */
const PUSH_OVERHEAD = 16 * 2 ** 20;
/** Wants and haves of one fetch, bytes after decompression. */
const UPLOAD_LIMIT = 64 * 2 ** 20;
/** Commits in one `/pack` request: the base, the work, and the changes to carry over. */
const MAX_WANTS = 4;
const COMMIT = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
const RECEIVE_PACK_RESULT = "application/x-git-receive-pack-result";
const SERVICES = ["git-upload-pack", "git-receive-pack"] as const;
type Service = (typeof SERVICES)[number];

/** Resolves when the answer, success or error, is sent. */
export async function serveGit(call: GitRequest): Promise<void> {
  try {
    await route(call);
  } catch (error) {
    if (!(error instanceof ProcessStartError)) throw error;
    refuse(call.response, 503, `${error.message}. Try again.`);
  }
}

async function route(call: GitRequest): Promise<void> {
  const { request, response } = call;
  const url = new URL(request.url ?? "/", "http://broker");
  const path = url.pathname.startsWith(PREFIX) ? url.pathname.slice(PREFIX.length) : "";
  if (path.startsWith("info/lfs") || path.includes("/lfs/")) return refuseLfs(response);
  const service = SERVICES.find((name) => path === name);
  if (request.method === "GET" && path === "pack") return servePack(call, url.searchParams.getAll("want"));
  if (request.method === "GET" && path === "info/refs") {
    const requested = url.searchParams.getAll("service");
    const advertised = SERVICES.find((name) => requested.length === 1 && name === requested[0]);
    return advertised === undefined
      ? refuse(response, 403, "Only the smart HTTP protocol is served here.")
      : advertiseRefs(call, advertised);
  }
  if (request.method !== "POST" || service === undefined)
    return refuse(response, 403, "Only the smart HTTP protocol is served here.");
  if (request.headers["content-type"] !== `application/x-${service}-request`)
    return refuse(response, 415, "The content type does not match the git service.");
  return service === "git-upload-pack" ? serveUploadPack(call) : serveReceivePack(call);
}

function refuse(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8", "cache-control": "no-cache" });
  response.end(`slipway: ${text}\n`);
}

/** git-lfs prints the message (git-lfs docs/api/batch.md, "Response Errors"). */
function refuseLfs(response: ServerResponse): void {
  response.writeHead(501, { "content-type": "application/vnd.git-lfs+json" });
  response.end(
    JSON.stringify({ message: "Slipway does not serve Git LFS: files kept in LFS stay pointers in this workspace." }),
  );
}

/**
 * Resource limits of git for one request: one thread, 2 GiB of address space, because a few hundred
 * bytes of deltas can expand to a file of any size, and ten minutes of processor time, because the
 * deltas of a small pack can take any time to apply. Files above 32 MiB are streamed.
 */
const LIMITED_SHELL =
  'ulimit -v 2097152 2>/dev/null; ulimit -St 600 2>/dev/null; ulimit -Ht 605 2>/dev/null; exec git "$@"';
const RESOURCE_SETTINGS = [
  "pack.threads=1",
  "core.bigFileThreshold=32m",
  "core.packedGitWindowSize=32m",
  "core.packedGitLimit=256m",
];

type GitChild = Child<"pipe", "pipe", "ignore">;

/**
 * Starts a new process group, so that git's helpers (index-pack, pack-objects) end with it.
 * @throws ProcessStartError
 */
function startGit({ repoPath, request, packLimit = PACK_LIMIT }: GitRequest, ...args: string[]): Promise<GitChild> {
  const protocol = request.headers["git-protocol"];
  const receive = [`receive.maxInputSize=${packLimit}`, "receive.unpackLimit=1"];
  const fixed = ["core.hooksPath=/dev/null", "gc.auto=0", ...receive, ...RESOURCE_SETTINGS];
  const settings = fixed.flatMap((setting) => ["-c", setting]);
  return startProcess("/bin/sh", ["-c", LIMITED_SHELL, "git", ...settings, ...args], {
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

const startService = (call: GitRequest, service: Service, ...flags: string[]): Promise<GitChild> =>
  startGit(call, service.slice("git-".length), "--stateless-rpc", ...flags, call.repoPath);

function killGroup(child: GitChild): void {
  if (child.exitCode === null && child.signalCode === null) signalGroup(child.pid, "SIGTERM");
}

/** Streams git's output as the answer; resolves when git has exited and the response is closed. */
async function sendOutput(child: GitChild, call: GitRequest, type: string, preface?: Buffer): Promise<void> {
  const { response, signal } = call;
  response.writeHead(200, { "content-type": type, "cache-control": "no-cache" });
  if (preface !== undefined) response.write(preface);
  child.stdin.on("error", () => undefined);
  child.stdout.pipe(response);
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const onAbort = (): void => void response.destroy();
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  await new Promise<void>((resolve) => (response.closed ? resolve() : response.once("close", resolve)));
  signal.removeEventListener("abort", onAbort);
  killGroup(child);
  child.stdout.destroy();
  child.stdin.destroy();
  await closed;
}

async function advertiseRefs(call: GitRequest, service: Service): Promise<void> {
  const child = await startService(call, service, "--http-backend-info-refs");
  child.stdin.end();
  const head = `# service=${service}\n`;
  const preface = Buffer.from(`${(head.length + 4).toString(16).padStart(4, "0")}${head}0000`);
  // Protocol version 2 omits the preface for fetches.
  const withoutPreface = service === "git-upload-pack" && call.request.headers["git-protocol"] === "version=2";
  return sendOutput(child, call, `application/x-${service}-advertisement`, withoutPreface ? undefined : preface);
}

/**
 * Sends the status only after git's first byte, so that an unknown commit is a 404. A pack that
 * breaks off later is detected by its missing checksum.
 */
async function servePack(call: GitRequest, wants: readonly string[]): Promise<void> {
  if (wants.length === 0 || wants.length > MAX_WANTS || !wants.every((want) => COMMIT.test(want)))
    return refuse(call.response, 400, `Name one to ${MAX_WANTS} commits: ?want=<40 or 64 hexadecimal digits>.`);
  const child = await startGit(call, "pack-objects", "--revs", "--stdout", "--delta-base-offset", "--quiet");
  child.stdin.on("error", () => undefined).end(`${wants.join("\n")}\n`);
  const first = await readFirstChunk(child, call);
  if (first !== null) return sendOutput(child, call, "application/x-git-pack", first);
  killGroup(child);
  if (call.signal.aborted || call.response.closed) return;
  const isIncomplete = (await call.isBaseUnreadable?.()) === true;
  if (isIncomplete) refuse(call.response, REPOSITORY_INCOMPLETE, "Objects of the repository are missing.");
  else refuse(call.response, 404, "The repository has no such commit.");
}

/** @returns null when git exits without output, the response closes, or the call is aborted. */
function readFirstChunk({ stdout }: GitChild, { response, signal }: GitRequest): Promise<Buffer | null> {
  return new Promise((resolve) => {
    const finish = (): void => resolve(null);
    response.once("close", finish);
    signal.addEventListener("abort", finish, { once: true });
    stdout.once("close", finish).once("data", (bytes: Buffer) => {
      stdout.pause();
      response.off("close", finish);
      signal.removeEventListener("abort", finish);
      resolve(bytes);
    });
  });
}

async function serveUploadPack(call: GitRequest): Promise<void> {
  const { request } = call;
  const child = await startService(call, "git-upload-pack");
  const body: Readable = request.headers["content-encoding"] === "gzip" ? request.pipe(createGunzip()) : request;
  const done = sendOutput(child, call, "application/x-git-upload-pack-result");
  pipeBody(child, body, UPLOAD_LIMIT);
  await done;
}

async function serveReceivePack(call: GitRequest): Promise<void> {
  const { request, response, attempt } = call;
  if (request.headers["content-encoding"] !== undefined)
    return refuse(response, 415, "Send the push without Content-Encoding.");
  const { bytes, check } = await readRefUpdates(request, new Set([WORK_REF, checkpointRef(attempt)]));
  switch (check.state) {
    case "incomplete":
      return refuse(response, 400, "The push ended before its ref updates were complete.");
    case "malformed":
      return refuse(response, 400, `${check.reason}.`);
    case "refused":
      return await rejectPush(call, check.commands, check.reason);
    case "allowed": {
      const { commands } = check;
      return await pushes.run(call.repoPath, () => receivePack(call, commands, bytes), call.signal);
    }
  }
}

/** @param head what has been read of the body. */
async function receivePack(call: GitRequest, commands: readonly RefCommand[], head: Buffer): Promise<void> {
  const { request, response, repoPath, space, packLimit = PACK_LIMIT, repoLimit = REPO_LIMIT } = call;
  const remaining = repoLimit - (await measurePacks(repoPath));
  if (remaining <= 0)
    return await rejectPush(call, commands, `this task has pushed ${repoLimit} bytes, which is the limit`);
  const held = space?.open(repoPath, readLength(request));
  try {
    if (held?.take(head.length) === false) return await rejectPush(call, commands, PUSH_LATER);
    const child = await startService({ ...call, packLimit: Math.min(packLimit, remaining) }, "git-receive-pack");
    const done = sendOutput(child, call, RECEIVE_PACK_RESULT);
    child.stdin.write(head);
    const refusePack = (): void => {
      child.stdout.unpipe(response).resume();
      killGroup(child);
      const ended = [once(child, "close"), once(request, "end")];
      void Promise.all(ended)
        .then(() => removeIncoming(repoPath))
        .then(() => response.end(formatRejection(commands, PUSH_LATER)))
        .catch(() => response.destroy());
    };
    // Git reports a pack above its limit itself; beyond this limit the connection is cut.
    pipeBody(child, request, packLimit + PUSH_OVERHEAD, held && { take: (size) => held.take(size), refusePack });
    await done;
  } finally {
    await removeIncoming(repoPath);
    held?.release();
  }
}

/** What pushes that were ended have left. No push to the repository may be under way. */
async function removeIncoming(repoPath: string): Promise<void> {
  const folder = join(repoPath, "objects");
  for (const name of await readdir(folder).catch(() => []))
    if (/^(?:tmp_objdir-)?incoming-/.test(name)) await rm(join(folder, name), { recursive: true, force: true });
}

/** Null = the body comes in chunks. */
function readLength({ headers }: IncomingMessage): number | null {
  const length = headers["content-length"];
  return length === undefined ? null : Number(length);
}

/** Reads the pack before answering: git would report a broken pipe instead of the reason. */
async function rejectPush(call: GitRequest, commands: readonly RefCommand[], reason: string): Promise<void> {
  const { request, response, packLimit = PACK_LIMIT } = call;
  await drain(request, packLimit + PUSH_OVERHEAD);
  response.writeHead(200, { "content-type": RECEIVE_PACK_RESULT, "cache-control": "no-cache" });
  response.end(formatRejection(commands, reason));
}

/** Bytes of all pushed packs: every other object is borrowed from another repository. */
async function measurePacks(repoPath: string): Promise<number> {
  const dir = join(repoPath, "objects", "pack");
  if (!existsSync(dir)) return 0;
  // A pack may be merged into another one meanwhile.
  const sizes = (await readdir(dir)).map(async (name) => (await stat(join(dir, name)).catch(() => null))?.size ?? 0);
  return (await Promise.all(sizes)).reduce((total, size) => total + size, 0);
}

/** Reads until the ref updates are complete or cannot become valid. */
async function readRefUpdates(request: IncomingMessage, allowed: ReadonlySet<string>) {
  let bytes = Buffer.alloc(0);
  let check = checkRefUpdates(bytes, allowed);
  while (check.state === "incomplete") {
    const chunk = await nextChunk(request);
    if (chunk === null) break;
    bytes = Buffer.concat([bytes, chunk]);
    check = checkRefUpdates(bytes, allowed);
  }
  return { bytes, check };
}

function nextChunk(request: IncomingMessage): Promise<Buffer | null> {
  return new Promise((resolve) => {
    const tryRead = (): void => {
      const chunk = request.read() as Buffer | null;
      if (chunk === null && !request.readableEnded && !request.destroyed) return;
      for (const name of ["readable", "end", "close"] as const) request.off(name, tryRead);
      resolve(chunk);
    };
    for (const name of ["readable", "end", "close"] as const) request.on(name, tryRead);
    tryRead();
  });
}

/** Discards the body until it ends or its sender disconnects; disconnects it above the limit. */
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

interface PackSpace {
  take(bytes: number): boolean;
  /** Called once, when `take` has returned false; the rest of the body is discarded. */
  refusePack(): void;
}

/**
 * Pipes the body into git with backpressure. Once git stops reading, for example because it refused
 * the pack, the rest is discarded, so that the sender reads the answer.
 */
function pipeBody(child: GitChild, body: Readable, limit: number, space?: PackSpace): void {
  let bytes = 0;
  let accepting = true;
  const onStdinClosed = (): void => {
    accepting = false;
    body.resume();
  };
  child.stdin
    .on("error", onStdinClosed)
    .on("close", onStdinClosed)
    .on("drain", () => body.resume());
  body.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > limit) {
      killGroup(child);
      body.destroy();
    } else if (accepting && space?.take(chunk.length) === false) {
      onStdinClosed();
      space.refusePack();
    } else if (accepting && !child.stdin.write(chunk)) body.pause();
  });
  if (body.readableEnded) child.stdin.end();
  body.once("end", () => child.stdin.end());
  body.once("error", () => killGroup(child));
}
