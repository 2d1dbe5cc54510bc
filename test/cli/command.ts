/** Runs the built command line in a separate process, as people do. */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const ROOT = join(import.meta.dirname, "../..");
export const CLI = join(ROOT, "dist", "slipway.mjs");

export interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

export interface Command {
  readonly process: ChildProcess;
  readonly ended: Promise<Ended>;
  /**
   * Resolves when this was printed on stdout or stderr; rejects when the process ends without it.
   */
  saw(text: string | RegExp): Promise<string>;
}

export interface Options {
  readonly env?: Record<string, string>;
  readonly input?: string;
  readonly cwd?: string;
  /** Instead of the built command line. */
  readonly file?: string;
}

/**
 * An environment without Slipway settings: no server, no token, no session of the developer.
 */
export function cleanEnv(home: string, extra: Record<string, string> = {}): Record<string, string> {
  return {
    PATH: process.env["PATH"] ?? "",
    HOME: home,
    TMPDIR: tmpdir(),
    XDG_CONFIG_HOME: join(home, "config"),
    ...extra,
  };
}

const open = new Set<ChildProcess>();

export function start(home: string, args: readonly string[], options: Options = {}): Command {
  const child = spawn(process.execPath, [options.file ?? CLI, ...args], {
    cwd: options.cwd ?? home,
    env: cleanEnv(home, options.env),
    stdio: ["pipe", "pipe", "pipe"],
  });
  open.add(child);
  child.stdin.on("error", () => undefined);
  child.stdin.end(options.input ?? "");
  let out = "";
  let err = "";
  const listeners = new Set<() => void>();
  const heard = (): void => {
    for (const listener of listeners) listener();
  };
  child.stdout.setEncoding("utf8").on("data", (text: string) => ((out += text), heard()));
  child.stderr.setEncoding("utf8").on("data", (text: string) => ((err += text), heard()));
  let over = false;
  const ended = new Promise<Ended>((done) => {
    child.on("close", (code) => {
      open.delete(child);
      over = true;
      done({ code, out, err });
      heard();
    });
  });
  return {
    process: child,
    ended,
    saw: (text) =>
      new Promise((done, failed) => {
        const look = (): void => {
          const all = out + err;
          const found = typeof text === "string" ? (all.includes(text) ? text : undefined) : text.exec(all)?.[0];
          if (found === undefined && !over) return;
          listeners.delete(look);
          if (found === undefined) failed(new Error(`ended without ${String(text)}:\n${all}`));
          else done(found);
        };
        listeners.add(look);
        look();
      }),
  };
}

export function run(home: string, args: readonly string[], options: Options = {}): Promise<Ended> {
  return start(home, args, options).ended;
}

export function killAll(): void {
  for (const child of open) child.kill("SIGKILL");
}

export function makeHome(): { home: string; remove: () => void } {
  const home = mkdtempSync(join(tmpdir(), "slipway-cli-"));
  return { home, remove: () => rmSync(home, { recursive: true, force: true }) };
}
