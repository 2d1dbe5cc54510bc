/** A real coordinator process and a real upstream, for what is measured from outside. */
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "../src/core/lib/runtime/system-clock.ts";
import { packageRoot } from "../src/core/lib/runtime/package-root.ts";

export interface Server {
  readonly url: string;
  /** The operator's. */
  readonly token: string;
  readonly pid: number;
  /** The address of its inspector, where Node.js was told to open one. */
  inspector(): Promise<string>;
  /** Sends JSON as the operator. Throws when the server refuses it. */
  call(method: string, path: string, body?: object): Promise<unknown>;
  end(signal: NodeJS.Signals): Promise<void>;
}

/**
 * @param env settings beside the port and the data folder. @param node options of Node.js; with
 * some, the server's log is read.
 */
export async function startServer(
  dataDir: string,
  env: Readonly<Record<string, string>>,
  node: readonly string[] = [],
): Promise<Server> {
  const child = spawn(process.execPath, [...node, join(packageRoot(), "dist", "slipway.mjs"), "serve"], {
    stdio: ["ignore", "pipe", node.length === 0 ? "ignore" : "pipe"],
    env: { ...process.env, SLIPWAY_PORT: "0", SLIPWAY_DATA_DIR: dataDir, SLIPWAY_AGENT: "scripted", ...env },
  });
  const inspector = said(child, /Debugger listening on (ws:\S+)/, child.stderr);
  inspector.catch(() => undefined);
  const url = await said(child, /listening on (http:\S+)/);
  const token = readFileSync(join(dataDir, "operator.token"), "utf8").trim();
  const authorization = `Bearer ${token}`;
  return {
    url,
    token,
    pid: child.pid ?? -1,
    inspector: () => inspector,
    async call(method, path, body) {
      const headers = { authorization, "content-type": "application/json" };
      const answer = await fetch(url + path, {
        method,
        headers,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      if (!answer.ok) throw new Error(`${method} ${path} was refused: ${await answer.text()}`);
      return (await answer.json()) as unknown;
    },
    end: (signal) =>
      new Promise((resolve) => {
        if (child.exitCode !== null || child.signalCode !== null) return resolve();
        child.once("exit", () => resolve());
        child.kill(signal);
      }),
  };
}

/** Beyond the resolution of the probe, ms. */
export interface LoopDelays {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/**
 * A module for `--import` that writes the delays of the event loop since its last report into the
 * file, at a signal.
 */
export const probeLoop = (file: string): string =>
  `data:text/javascript,${encodeURIComponent(`
    import { monitorEventLoopDelay } from "node:perf_hooks";
    import { renameSync, writeFileSync } from "node:fs";
    const delays = monitorEventLoopDelay({ resolution: 1 });
    delays.enable();
    process.on("SIGUSR2", () => {
      const ms = (nanoseconds) => Math.max(0, nanoseconds / 1e6 - 1);
      const at = (p) => ms(delays.percentile(p));
      const file = ${JSON.stringify(file)};
      writeFileSync(file + ".new", JSON.stringify({ p50: at(50), p99: at(99), max: ms(delays.max) }));
      renameSync(file + ".new", file);
      delays.reset();
    });`)}`;

/** Since the last call. The server was started with that probe. */
export async function readLoopDelays({ pid }: Pick<Server, "pid">, file: string): Promise<LoopDelays> {
  rmSync(file, { force: true });
  process.kill(pid, "SIGUSR2");
  while (!existsSync(file)) await systemClock.sleep(2);
  return JSON.parse(readFileSync(file, "utf8")) as LoopDelays;
}

export interface Upstream {
  readonly url: string;
  readonly host: string;
  close(): void;
}

/** Holds one repository, `app`. */
export async function startUpstream(root: string): Promise<Upstream> {
  const child = spawn(process.execPath, [join(packageRoot(), "scripts", "git-server.mjs"), root, "--repo", "app"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const url = await said(child, /listening on (http:\S+)/);
  return { url, host: new URL(url).host, close: () => void child.kill() };
}

function said(child: ChildProcess, words: RegExp, stream = child.stdout): Promise<string> {
  return new Promise((resolve, reject) => {
    let text: string | null = "";
    stream?.on("data", (chunk: Buffer) => {
      if (text === null) return;
      text += chunk.toString();
      const found = words.exec(text)?.[1];
      if (found === undefined) return;
      // What follows is read, so that the pipe does not fill, and not kept.
      text = null;
      resolve(found);
    });
    child.once("exit", (code) => reject(new Error(`it ended with ${code} before it said ${String(words)}`)));
  });
}
