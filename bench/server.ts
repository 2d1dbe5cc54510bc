/** A real coordinator process and a real upstream, for what is measured from outside. */
import { spawn, type ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../src/core/lib/runtime/package-root.ts";

export interface Server {
  readonly url: string;
  /** Sends JSON as the operator; throws what was refused. */
  call(method: string, path: string, body?: object): Promise<unknown>;
  end(signal: NodeJS.Signals): Promise<void>;
}

/** @param env settings beside the port and the data folder. */
export async function startServer(dataDir: string, env: Readonly<Record<string, string>>): Promise<Server> {
  const child = spawn(process.execPath, [join(packageRoot(), "dist", "slipway.mjs"), "serve"], {
    stdio: ["ignore", "pipe", "ignore"],
    env: { ...process.env, SLIPWAY_PORT: "0", SLIPWAY_DATA_DIR: dataDir, SLIPWAY_AGENT: "scripted", ...env },
  });
  const url = await said(child, /listening on (http:\S+)/);
  const authorization = `Bearer ${readFileSync(join(dataDir, "operator.token"), "utf8").trim()}`;
  return {
    url,
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

function said(child: ChildProcess, words: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    child.stdout?.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      const found = words.exec(text)?.[1];
      if (found !== undefined) resolve(found);
    });
    child.once("exit", (code) => reject(new Error(`it ended with ${code} before it said ${String(words)}`)));
  });
}
