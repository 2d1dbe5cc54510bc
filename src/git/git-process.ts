/**
 * The coordinator's only runner of git: a closed environment, a separate process group per call and
 * bounded output.
 *
 * N1 Git reads only the configuration that this file sets: no system or global file, no hooks, no
 *    credential helper, no redirects, no proxy, http and https only.
 * N2 A credential lives in the environment of the git child for one call; `askpass` returns
 *    it. Never in argv, URL or on disk.
 * N3 The credential is redacted from git's error output before the output leaves this file.
 * N4 Git runs under limits of address space, processor time and file size by the kind of its call,
 *    which its helpers inherit: a host or the content of a repository decides how much git wants.
 * N5 A call settles when no process of its group holds its output any more. The whole group is
 *    signalled, because git's transport helpers hold the credential too and outlive a killed git.
 */
import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import type { Readable } from "node:stream";
import { GitError } from "../core/lib/git/git-error.ts";
import { redactCredential } from "../core/lib/json/redaction.ts";
import { readProgress, withoutProgress } from "../core/lib/git/git-progress.ts";
import { runProcessGroup } from "../core/lib/runtime/process-group.ts";
import { replaceFile } from "../core/lib/runtime/replace-file.ts";
import type { GitAuth } from "../core/ports/repositories.ts";

/**
 * `remote` reads a few refs of a host, `transfer` receives or sends packs, `diff` compares content;
 * anything else is `local`.
 */
export type GitKind = "local" | "remote" | "transfer" | "diff";

export interface GitLimits {
  /** Address space of each process, MiB. */
  readonly memoryMb: number;
  /** Processor time of each process, s. */
  readonly cpuS: number;
  /** Largest file that is written, MiB. */
  readonly fileMb: number;
}

export interface GitCall {
  /** `local` by default. */
  readonly kind?: GitKind;
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
  /** Standard input; empty by default. */
  readonly input?: string | Readable;
  /**
   * The output is cut after this many bytes, and git is stopped. Without it, more than 16 MiB is an
   * error.
   */
  readonly maxBytes?: number;
  /** Variables of git's own beside the closed environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Receives git's progress (src/core/lib/git/git-progress.ts). */
  readonly progress?: ((text: string) => void) | undefined;
}

export interface GitOutput {
  readonly bytes: Buffer;
  /** `bytes` as UTF-8; what is not UTF-8 shows as U+FFFD. */
  readonly text: string;
  readonly truncated: boolean;
}

export interface Git {
  /**
   * @throws GitError when git fails or exceeds the idle timeout; the signal's reason when aborted.
   */
  (call: GitCall): Promise<GitOutput>;
}

/**
 * Longest time without output, ms. Long transfers write progress; an upstream hook may run for
 * minutes without output.
 */
const IDLE_MS = 300_000;
/** From SIGTERM, on which git removes its lock files, to SIGKILL, ms. */
const GRACE_MS = 3_000;
const OUTPUT_BYTES = 16 * 2 ** 20;
const ERROR_CHARS = 16_384;

/** Largest pack of a repository unless the installation says otherwise, MiB. */
const REPOSITORY_MB = 10_240;

export const GIT_LIMITS: Readonly<Record<GitKind, GitLimits>> = {
  local: { memoryMb: 2_048, cpuS: 600, fileMb: REPOSITORY_MB },
  remote: { memoryMb: 256, cpuS: 30, fileMb: 1 },
  transfer: { memoryMb: 2_048, cpuS: 1_800, fileMb: REPOSITORY_MB },
  diff: { memoryMb: 768, cpuS: 20, fileMb: 1 },
};

/**
 * Arguments: MiB of address space, seconds, MiB of a file, then git's. `ulimit -f` counts 512 B. At
 * the soft limit of seconds git gets SIGXCPU, at the hard one SIGKILL, which says nothing.
 */
const LIMITED =
  'ulimit -v $(($1 * 1024)) 2>/dev/null; ulimit -St "$2" 2>/dev/null; ulimit -Ht $(($2 + 5)) 2>/dev/null; ulimit -f $(($3 * 2048)) 2>/dev/null; ' +
  'shift 3; exec git "$@"';

/** Signals by which the system ends a process above a limit. */
const LIMIT_SIGNALS: Readonly<Partial<Record<NodeJS.Signals, string>>> = {
  SIGXCPU: "git exceeded the limit of processor time",
  SIGXFSZ: "git exceeded the limit of file size",
};

const CONFIG = [
  // They bound the address space of large repositories and of machines with many cores.
  "core.packedGitWindowSize=32m",
  "core.packedGitLimit=256m",
  "pack.threads=4",
  // What is received stays one pack: it appears when it is whole, and git syncs it to disk. Loose
  // objects appear one by one, the commit before its trees and files, so that a fetch that breaks
  // off would leave a commit with holes.
  "fetch.unpackLimit=1",
  "receive.unpackLimit=1",
  "transfer.unpackLimit=1",
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
export function openGit(dir: string, limits: Readonly<Record<GitKind, GitLimits>> = GIT_LIMITS): Git {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const askpass = join(dir, "askpass.sh");
  replaceFile(
    askpass,
    `#!/bin/sh\ncase "$1" in\nUsername*) printf '%s\\n' "$SLIPWAY_GIT_USERNAME" ;;\n*) printf '%s\\n' "$SLIPWAY_GIT_TOKEN" ;;\nesac\n`,
    0o700,
  );

  return async (call) => {
    const { signal, auth, pin, args, cwd, maxBytes } = call;
    signal?.throwIfAborted();
    const settings = [...CONFIG, ...(pin ? [`http.curloptResolve=${pin}`] : [])].flatMap((setting) => ["-c", setting]);
    const { memoryMb, cpuS, fileMb } = limits[call.kind ?? "local"];
    const numbers = [memoryMb, cpuS, fileMb].map(String);
    const result = await runProcessGroup("/bin/sh", ["-c", LIMITED, "git", ...numbers, ...settings, ...args], {
      cwd,
      env: environment(askpass, call),
      input: call.input,
      signal,
      maxStdoutBytes: maxBytes ?? OUTPUT_BYTES,
      maxStderrChars: 4 * ERROR_CHARS,
      onStderr: call.progress === undefined ? undefined : readProgress(call.progress),
      timeout: { kind: "idle", ms: IDLE_MS },
      graceMs: GRACE_MS,
    });
    signal?.throwIfAborted();
    const { stdout: bytes, stopped, exitCode } = result;
    const truncated = stopped === "output_limit" && maxBytes !== undefined;
    if (truncated || (stopped === null && exitCode === 0)) return { bytes, text: bytes.toString("utf8"), truncated };
    const said = withoutProgress(result.stderr);
    const output = (auth ? redactCredential(said, auth) : said).slice(-ERROR_CHARS);
    if (stopped === null) {
      const exceeded = result.exitSignal === null ? undefined : LIMIT_SIGNALS[result.exitSignal];
      throw new GitError(exceeded === undefined ? output : `${output}\n${exceeded}`, undefined, exitCode);
    }
    const limit = stopped === "output_limit" ? "git exceeded the output limit" : "git exceeded the idle timeout";
    throw new GitError(`${output}\n${limit}`);
  };
}

function environment(askpass: string, { auth, local, cwd, env }: GitCall): Record<string, string> {
  const authorities = process.env["GIT_SSL_CAINFO"] ?? process.env["SSL_CERT_FILE"];
  return {
    PATH: process.env["PATH"] ?? "/usr/bin:/bin",
    HOME: "/nonexistent",
    LC_ALL: "C",
    GIT_ASKPASS: askpass,
    GIT_TERMINAL_PROMPT: "0",
    // Each arena takes 64 MiB of address space.
    MALLOC_ARENA_MAX: "2",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_NO_REPLACE_OBJECTS: "1",
    // Refs are also read as files (bare/bare-repository.ts).
    GIT_DEFAULT_REF_FORMAT: "files",
    // A damaged repository is an error; a repository around the data folder is not used instead.
    GIT_CEILING_DIRECTORIES: dirname(resolve(cwd)),
    GIT_ALLOW_PROTOCOL: local ? "file" : "http:https",
    ...(authorities ? { GIT_SSL_CAINFO: authorities } : {}),
    ...env,
    ...(auth ? { SLIPWAY_GIT_USERNAME: auth.username, SLIPWAY_GIT_TOKEN: auth.token } : {}),
  };
}

/** Git holds a lock of a ref for milliseconds; one of this age has lost its holder, ms. */
const LOCK_AGE_MS = 60_000;

/**
 * Removes lock files that have lost their holder from a repository that others may write to at the
 * same time: those from before `since` (epoch ms), and those of LOCK_AGE_MS.
 */
export function removeOldLocks(repository: string, since: number): void {
  const isOld = (path: string): boolean => {
    const { mtimeMs } = statSync(path, { throwIfNoEntry: false }) ?? { mtimeMs: Date.now() };
    return mtimeMs < since || Math.abs(Date.now() - mtimeMs) > LOCK_AGE_MS;
  };
  removeMatching(repository, "", (name, path) => isLock(name) && isOld(path));
  removeMatching(repository, "refs", (name, path) => isLock(name) && isOld(path));
}

/**
 * Removes what a git that was killed with SIGKILL leaves in a bare repository: lock files, on which
 * every later write fails, and partial packs, which only take space. The caller ensures that no
 * other process writes to the repository.
 */
export function removeStaleLocks(repository: string): void {
  removeMatching(repository, "", isLock);
  removeMatching(repository, "refs", isLock);
  removeMatching(repository, "objects", (name) => name.startsWith("tmp_"));
  removeMatching(repository, "objects/pack", (name) => name.startsWith("tmp_"));
}

const isLock = (name: string): boolean => name.endsWith(".lock");

/** Only `refs` is searched below its first level. */
function removeMatching(repository: string, folder: string, isUnwanted: (name: string, path: string) => boolean): void {
  const dir = join(repository, folder);
  if (!existsSync(dir)) return;
  for (const name of readdirSync(dir, { recursive: folder === "refs", encoding: "utf8" })) {
    const path = join(dir, name);
    if (isUnwanted(name, path)) rmSync(path, { recursive: true, force: true });
  }
}
