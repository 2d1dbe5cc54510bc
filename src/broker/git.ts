/**
 * Git smart HTTP on one task repository (gitprotocol-http(5)): the only remote that a worker ever sees.
 * The listener has authenticated the caller; what may be pushed is decided here, before git reads a byte.
 */
import { spawn } from "node:child_process";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { checkpointRef, WORK_REF } from "../ports.ts";
import { judge, refusal } from "./refguard.ts";

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
}

const PREFIX = "/git/repo.git/";
const PACK_LIMIT = 512 * 2 ** 20;
const SERVICES = ["git-upload-pack", "git-receive-pack"] as const;
type Service = (typeof SERVICES)[number];

/** Resolves when the answer is sent, whatever it is; never rejects. */
export async function serveGit(call: GitRequest): Promise<void> {
  const { request, response } = call;
  const url = new URL(request.url ?? "/", "http://broker");
  const path = url.pathname.startsWith(PREFIX) ? url.pathname.slice(PREFIX.length) : "";
  if (path.startsWith("info/lfs") || path.includes("/lfs/")) return refuseLfs(response);
  const service = SERVICES.find((one) => path === one);
  if (request.method === "GET" && path === "info/refs") {
    const asked = url.searchParams.getAll("service");
    const named = SERVICES.find((one) => asked.length === 1 && one === asked[0]);
    return named === undefined ? refuse(response, 403, "Only the smart HTTP protocol is served here.") : advertise(call, named);
  }
  if (request.method !== "POST" || service === undefined) return refuse(response, 403, "Only the smart HTTP protocol is served here.");
  if (request.headers["content-type"] !== `application/x-${service}-request`) return refuse(response, 415, "This is not a git request.");
  return service === "git-upload-pack" ? upload(call) : receive(call);
}

function refuse(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8", "cache-control": "no-cache" });
  response.end(`slipway: ${text}\n`);
}

/** The words that git-lfs prints (git-lfs docs/api/batch.md, "Response Errors"). */
function refuseLfs(response: ServerResponse): void {
  response.writeHead(501, { "content-type": "application/vnd.git-lfs+json" });
  response.end(JSON.stringify({ message: "Slipway does not serve Git LFS: files kept in LFS stay pointers in this workspace." }));
}

function start({ repoPath, request, signal }: GitRequest, service: Service, ...flags: string[]) {
  const protocol = request.headers["git-protocol"];
  return spawn(
    "git",
    ["-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", service.slice("git-".length), "--stateless-rpc", ...flags, repoPath],
    {
      signal,
      stdio: ["pipe", "pipe", "ignore"],
      env: {
        PATH: process.env["PATH"] ?? "/usr/bin:/bin",
        HOME: "/nonexistent",
        LC_ALL: "C",
        GIT_CONFIG_NOSYSTEM: "1",
        GIT_CONFIG_GLOBAL: "/dev/null",
        ...(typeof protocol === "string" && /^version=[012]$/.test(protocol) ? { GIT_PROTOCOL: protocol } : {}),
      },
    },
  );
}

type Child = ReturnType<typeof start>;

/** Streams git's answer; resolves when the connection is done with. */
function answer(child: Child, call: GitRequest, type: string, preface?: Buffer): Promise<void> {
  const { response } = call;
  response.writeHead(200, { "content-type": type, "cache-control": "no-cache" });
  if (preface !== undefined) response.write(preface);
  child.stdin.on("error", () => undefined);
  child.stdout.pipe(response);
  return new Promise((resolve) => {
    child.once("error", () => response.destroy());
    response.once("close", () => {
      if (child.exitCode === null) child.kill();
      resolve();
    });
  });
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

function upload(call: GitRequest): Promise<void> {
  const { request } = call;
  const body: Readable = request.headers["content-encoding"] === "gzip" ? request.pipe(createGunzip()) : request;
  const child = start(call, "git-upload-pack");
  body.on("error", () => child.kill());
  body.pipe(child.stdin);
  return answer(child, call, "application/x-git-upload-pack-result");
}

async function receive(call: GitRequest): Promise<void> {
  const { request, response, attempt } = call;
  const type = "application/x-git-receive-pack-result";
  if (request.headers["content-encoding"] !== undefined) return refuse(response, 415, "A push is sent as it is, without an encoding.");
  const head = await readHead(request, new Set([WORK_REF, checkpointRef(attempt)]));
  switch (head.judgement.kind) {
    case "more":
    case "malformed":
      return refuse(response, 400, head.judgement.kind === "more" ? "The push ended too early." : `${head.judgement.why}.`);
    case "refused": {
      // The pack must be read before the answer, or git sees a broken pipe instead of the reason.
      request.resume();
      await new Promise((resolve) => (request.readableEnded ? resolve(null) : request.once("close", resolve).once("end", resolve)));
      response.writeHead(200, { "content-type": type, "cache-control": "no-cache" });
      return void response.end(refusal(head.judgement.commands, head.judgement.why));
    }
    case "allowed":
      return pass(call, head.bytes, type);
  }
}

/** Reads until the commands are known. */
async function readHead(request: IncomingMessage, allowed: ReadonlySet<string>) {
  let bytes = Buffer.alloc(0);
  let judgement = judge(bytes, allowed);
  while (judgement.kind === "more") {
    const chunk = await nextChunk(request);
    if (chunk === null) break;
    bytes = Buffer.concat([bytes, chunk]);
    judgement = judge(bytes, allowed);
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

function pass(call: GitRequest, head: Buffer, type: string): Promise<void> {
  const { request, packLimit = PACK_LIMIT } = call;
  const child = start(call, "git-receive-pack");
  const done = answer(child, call, type);
  let bytes = head.length;
  child.stdin.write(head);
  request.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > packLimit) return void child.kill();
    if (!child.stdin.write(chunk)) {
      request.pause();
      child.stdin.once("drain", () => request.resume());
    }
  });
  if (request.readableEnded) child.stdin.end();
  else request.once("end", () => child.stdin.end()).once("close", () => !request.complete && child.kill());
  return done;
}
