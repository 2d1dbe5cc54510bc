/** Starts sandbox-peer-main.ts as a second process and observes it. */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import type { PeerOrder } from "./sandbox-peer-main.ts";

export interface Peer {
  /** Resolves when the process has printed the word; rejects if it ends before. */
  waitForOutput(word: string): Promise<void>;
  go(): void;
  /** The signal or exit code that ended it. */
  readonly ended: Promise<NodeJS.Signals | number | null>;
  kill(): Promise<void>;
}

export interface Peers {
  start(order: PeerOrder): Peer;
  close(): Promise<void>;
}

function follow(child: ChildProcess): Peer {
  let out = "";
  let errors = "";
  child.stdout?.on("data", (text) => (out += text));
  child.stderr?.on("data", (text) => (errors += text));
  const ended = new Promise<NodeJS.Signals | number | null>((resolve) =>
    child.once("close", (code, signal) => resolve(signal ?? code)),
  );
  return {
    ended,
    go: () => void child.stdin?.write("go\n"),
    async waitForOutput(word) {
      let end: NodeJS.Signals | number | null | undefined;
      void ended.then((how) => (end = how));
      while (!out.includes(word)) {
        if (end !== undefined) throw new Error(`the peer ended (${end}) before it printed ${word}: ${errors}`);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

/** The bundle is written below node_modules, so that its imports of packages resolve. */
export async function openPeers(): Promise<Peers> {
  const root = join(import.meta.dirname, "../../..");
  const dir = join(root, "node_modules", ".slipway-test");
  const file = join(dir, `peer-${process.pid}.mjs`);
  mkdirSync(dir, { recursive: true });
  const entry = join(import.meta.dirname, "sandbox-peer-main.ts");
  await build({
    entryPoints: [entry],
    outfile: file,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    packages: "external",
  });
  const started: Peer[] = [];
  return {
    start(order) {
      const peer = follow(spawn(process.execPath, [file, JSON.stringify(order)], { stdio: ["pipe", "pipe", "pipe"] }));
      started.push(peer);
      return peer;
    },
    async close() {
      await Promise.all(started.map((peer) => peer.kill()));
      rmSync(file, { force: true });
    },
  };
}
