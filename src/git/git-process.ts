/**
 * The one way in which the coordinator runs git: a closed environment, a process group of its own,
 * a bounded output.
 *
 * N1 No configuration but ours: no system or global file, no hooks, no credential helper, no
 *    redirects, no proxy, http and https only.
 * N2 A credential lives in the environment of the git child for the length of one call; `askpass`
 *    hands it over. Never in argv, URL or on disk.
 * N3 What git says is scrubbed of the credential before anyone sees it.
 * N4 A call that has ended, however it ended, leaves no process behind: git's transport helpers
 *    hold the credential too, and outlive a git that is killed alone.
 */
import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { GitAuth } from "../core/ports/repositories.ts";

export interface GitCall {
  readonly cwd: string;
  readonly args: readonly string[];
  readonly signal?: AbortSignal;
  readonly auth?: GitAuth | null;
  /**
   * `host:port:address` for the host that may be connected to, decided before the call
   * (src/git/host-pinning.ts).
   */
  readonly pin?: string | null;
  /** Local repositories of ours may be read by path. */
  readonly local?: boolean;
  /** What git reads; nothing unless told. */
  readonly input?: string;
  /**
   * The output is cut after this many bytes, and git is stopped. Without it, more than 16 MiB is an
   * error.
   */
  readonly maxBytes?: number;
}

export interface GitOutput {
  readonly bytes: Buffer;
  /** `bytes` as UTF-8; what is not UTF-8 shows as U+FFFD. */
  readonly text: string;
  readonly truncated: boolean;
}

/** Git ended with an error; `output` is what it said, without the progress. */
export class GitError extends Error {
  readonly output: string;

  constructor(output: string) {
    super(output.trim().split("\n").at(-1) ?? "git failed");
    this.name = "GitError";
    this.output = output;
  }
}

export interface Git {
  /** @throws GitError when git fails or falls silent; the signal's reason when aborted. */
  (call: GitCall): Promise<GitOutput>;
}

/**
 * Longest silence of a git process, ms. Long transfers show progress; a hook of the upstream may
 * think for a while.
 */
const SILENCE_MS = 300_000;
/** From SIGTERM, on which git removes its lock files, to SIGKILL, ms. */
const KILL_MS = 3_000;
const OUTPUT_BYTES = 16 * 2 ** 20;
const SAID_BYTES = 16_384;

const CONFIG = [
  "core.hooksPath=/dev/null",
  "credential.helper=",
  "http.followRedirects=false",
  "http.lowSpeedLimit=1",
  "http.lowSpeedTime=60",
  "gc.auto=0",
  "maintenance.auto=false",
  "core.quotePath=false",
];

/** @param dir a private folder for the askpass helper, which holds no secret itself. */
export function openGit(dir: string): Git {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const askpass = join(dir, "askpass.sh");
  writeFileSync(
    askpass,
    `#!/bin/sh\ncase "$1" in\nUsername*) printf '%s\\n' "$SLIPWAY_GIT_USERNAME" ;;\n*) printf '%s\\n' "$SLIPWAY_GIT_TOKEN" ;;\nesac\n`,
  );
  chmodSync(askpass, 0o700);

  return async (call) => {
    const { signal, auth, pin, args, cwd, maxBytes } = call;
    signal?.throwIfAborted();
    const settings = [...CONFIG, ...(pin ? [`http.curloptResolve=${pin}`] : [])].flatMap((one) => ["-c", one]);
    const ended = await run({
      args: [...settings, ...args],
      cwd,
      env: environment(askpass, call),
      input: call.input,
      limit: maxBytes ?? OUTPUT_BYTES,
      signal,
    });
    signal?.throwIfAborted();
    const { bytes, why } = ended;
    if (why === "full" && maxBytes !== undefined) return { bytes, text: bytes.toString("utf8"), truncated: true };
    if (why === "done") return { bytes, text: bytes.toString("utf8"), truncated: false };
    const said = scrub(withoutProgress(ended.said), auth ?? null);
    throw new GitError(
      why === "failed" ? said : `${said}\n${why === "full" ? "git said too much" : "git fell silent"}`,
    );
  };
}

interface Ended {
  readonly why: "done" | "failed" | "full" | "silent" | "aborted";
  readonly bytes: Buffer;
  readonly said: string;
}

interface Run {
  readonly args: string[];
  readonly cwd: string;
  readonly env: Record<string, string>;
  readonly input: string | undefined;
  readonly limit: number;
  readonly signal: AbortSignal | undefined;
}

/**
 * Resolves when every process of the group has let go of its output; rejects when git cannot be
 * started.
 */
function run({ args, cwd, env, input, limit, signal }: Run): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn("git", args, { cwd, env, detached: true, stdio: ["pipe", "pipe", "pipe"] });
    child.stdin.on("error", () => undefined);
    child.stdin.end(input);
    const chunks: Buffer[] = [];
    let size = 0;
    let said = "";
    let cut: Ended["why"] | null = null;
    let killer: NodeJS.Timeout | undefined;
    const stop = (why: Ended["why"]): void => {
      if (cut !== null) return;
      cut = why;
      killGroup(child.pid, "SIGTERM");
      killer = setTimeout(() => killGroup(child.pid, "SIGKILL"), KILL_MS);
    };
    const silence = setTimeout(() => stop("silent"), SILENCE_MS);
    const onAbort = (): void => stop("aborted");
    signal?.addEventListener("abort", onAbort, { once: true });
    const release = (): void => {
      clearTimeout(silence);
      clearTimeout(killer);
      signal?.removeEventListener("abort", onAbort);
    };
    child.stdout.on("data", (chunk: Buffer) => {
      silence.refresh();
      if (size < limit) chunks.push(chunk.subarray(0, limit - size));
      size += chunk.length;
      if (size > limit) stop("full");
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      silence.refresh();
      said = (said + text).slice(-4 * SAID_BYTES);
    });
    child.once("error", (cause) => {
      release();
      reject(new Error("git could not be started", { cause }));
    });
    child.once("close", (code) => {
      release();
      resolve({ why: cut ?? (code === 0 ? "done" : "failed"), bytes: Buffer.concat(chunks), said });
    });
  });
}

function killGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // The group is gone: nothing is left to stop.
  }
}

function environment(askpass: string, { auth, local }: GitCall): Record<string, string> {
  const authorities = process.env["GIT_SSL_CAINFO"] ?? process.env["SSL_CERT_FILE"];
  return {
    PATH: process.env["PATH"] ?? "/usr/bin:/bin",
    HOME: "/nonexistent",
    LC_ALL: "C",
    GIT_ASKPASS: askpass,
    GIT_TERMINAL_PROMPT: "0",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_NO_REPLACE_OBJECTS: "1",
    GIT_ALLOW_PROTOCOL: local ? "file" : "http:https",
    ...(authorities ? { GIT_SSL_CAINFO: authorities } : {}),
    ...(auth ? { SLIPWAY_GIT_USERNAME: auth.username, SLIPWAY_GIT_TOKEN: auth.token } : {}),
  };
}

/**
 * Progress lines overwrite one another with a carriage return; only the last state of each line is
 * worth showing.
 */
function withoutProgress(said: string): string {
  const lines = said.split("\n").map((line) => line.split("\r").findLast((part) => part.trim() !== "") ?? "");
  return lines
    .filter(
      (line) =>
        !/^(remote: )?(Enumerating|Counting|Compressing|Receiving|Resolving|Writing) (objects|deltas):/.test(line),
    )
    .join("\n")
    .slice(-SAID_BYTES);
}

/** The secret in each form that it could take in a message. */
function scrub(text: string, auth: GitAuth | null): string {
  if (auth === null || auth.token === "") return text;
  const basic = Buffer.from(`${auth.username}:${auth.token}`).toString("base64");
  const forms = [auth.token, encodeURIComponent(auth.token), basic, Buffer.from(auth.token).toString("base64")];
  return forms.reduce((clean, form) => clean.replaceAll(form, "***"), text);
}

/**
 * Removes what a git that was killed with SIGKILL leaves in a bare repository: lock files, on which
 * every later write fails, and partial packs, which only take space. The caller ensures that no
 * other process writes to the repository.
 */
export function removeStaleLocks(repository: string): void {
  const drop = (folder: string, unwanted: (name: string) => boolean, recursive = false): void => {
    const path = join(repository, folder);
    if (!existsSync(path)) return;
    for (const name of readdirSync(path, { recursive, encoding: "utf8" })) {
      if (unwanted(name)) rmSync(join(path, name), { recursive: true, force: true });
    }
  };
  drop("", (name) => name.endsWith(".lock"));
  drop("refs", (name) => name.endsWith(".lock"), true);
  drop("objects", (name) => name.startsWith("tmp_objdir-"));
  drop("objects/pack", (name) => name.startsWith("tmp_"));
}
