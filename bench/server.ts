/** A real coordinator process and a real upstream, for what is measured from outside. */
import { spawn, type ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../src/core/lib/runtime/package-root.ts";

export interface Server {
  readonly url: string;
  /** The operator's. */
  readonly token: string;
  readonly pid: number;
  /** The address of its inspector, where Node.js was told to open one. */
  inspector(): Promise<string>;
  /** Sends JSON as the operator; throws what was refused. */
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
