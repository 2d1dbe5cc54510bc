/**
 * The one way in which the coordinator runs git: simple-git with a closed environment.
 *
 * N1 No configuration but ours: no system or global file, no hooks, no credential helper, no redirects, http and https only.
 * N2 A credential lives in the environment of the git child for the length of one call; `askpass` hands it over. Never in argv, URL or on disk.
 * N3 What git says is scrubbed of the credential before anyone sees it.
 */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { simpleGit } from "simple-git";
import { isAbort, messageOf } from "../error.ts";
import type { GitAuth } from "../ports.ts";

export interface GitCall {
  readonly cwd: string;
  readonly args: readonly string[];
  readonly signal?: AbortSignal;
  readonly auth?: GitAuth | null;
  /** `host:port:address` for each host that may be connected to, decided before the call (src/git/address.ts). */
  readonly pin?: string | null;
  /** Local repositories of ours may be read by path. */
  readonly local?: boolean;
  /** Stop reading after this many bytes; the output is cut there. */
  readonly maxBytes?: number;
}

export interface GitOutput {
  readonly text: string;
  readonly truncated: boolean;
}

/** Git ended with an error; `output` is what it said. */
export class GitError extends Error {
  readonly output: string;

  constructor(output: string) {
    super(output.trim().split("\n").at(-1) ?? "git failed");
    this.name = "GitError";
    this.output = output.slice(-16_384);
  }
}

export interface Git {
  (call: GitCall): Promise<GitOutput>;
}

/** Longest silence of a git process, ms. */
const SILENCE_MS = 120_000;

const CONFIG = [
  "core.hooksPath=/dev/null",
  "credential.helper=",
  "http.followRedirects=false",
  "http.lowSpeedLimit=1",
  "http.lowSpeedTime=60",
  "gc.auto=0",
  "maintenance.auto=false",
  "advice.detachedHead=false",
  "core.quotePath=false",
];
const ALLOWED = [
  "GIT_ASKPASS",
  "GIT_TERMINAL_PROMPT",
  "GIT_CONFIG_NOSYSTEM",
  "GIT_CONFIG_GLOBAL",
  "GIT_ALLOW_PROTOCOL",
  "GIT_NO_REPLACE_OBJECTS",
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
    const { signal, auth, maxBytes } = call;
    signal?.throwIfAborted();
    const full = new AbortController();
    const abort = signal === undefined ? full.signal : AbortSignal.any([signal, full.signal]);
    const chunks: Buffer[] = [];
    let bytes = 0;
    const runner = simpleGit({
      baseDir: call.cwd,
      abort,
      timeout: { block: SILENCE_MS },
      config: [...CONFIG, ...(call.pin ? [`http.curloptResolve=${call.pin}`] : [])],
      allowEnvironment: ALLOWED,
      unsafe: { allowUnsafeAskPass: true, allowUnsafeHooksPath: true, allowUnsafeCredentialHelper: true, allowUnsafeConfigPaths: true },
    })
      .env(environment(askpass, call))
      .outputHandler((_command, stdout) => {
        stdout.on("data", (chunk: Buffer) => {
          chunks.push(chunk);
          bytes += chunk.length;
          if (maxBytes !== undefined && bytes > maxBytes) full.abort();
        });
      });
    try {
      const text = await runner.raw([...call.args]);
      return { text, truncated: false };
    } catch (error) {
      signal?.throwIfAborted();
      if (full.signal.aborted) return { text: Buffer.concat(chunks).subarray(0, maxBytes).toString("utf8"), truncated: true };
      if (isAbort(error)) throw error;
      throw new GitError(scrub(messageOf(error), auth ?? null));
    }
  };
}

function environment(askpass: string, { auth, local }: GitCall): Record<string, string> {
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
    ...certificates(),
    ...(auth ? { SLIPWAY_GIT_USERNAME: auth.username, SLIPWAY_GIT_TOKEN: auth.token } : {}),
  };
}

/** Where the machine keeps its certificate authorities, when it says so. */
function certificates(): Record<string, string> {
  const found = ["SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE"].map((name) => [name, process.env[name]] as const);
  return Object.fromEntries(found.filter((pair): pair is [string, string] => pair[1] !== undefined));
}

/** The secret in each form that it could take in a message. */
export function scrub(text: string, auth: GitAuth | null): string {
  if (auth === null || auth.token === "") return text;
  const basic = Buffer.from(`${auth.username}:${auth.token}`).toString("base64");
  const forms = [auth.token, encodeURIComponent(auth.token), basic, Buffer.from(auth.token).toString("base64")];
  return forms.reduce((clean, form) => clean.replaceAll(form, "***"), text);
}
