/** Starts sandbox-peer.ts as a real second process and tells what became of it. */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import type { PeerOrder } from "./sandbox-peer-main.ts";

export interface Peer {
  /** Resolves when it said this word; rejects when it ended before. */
  said(word: string): Promise<void>;
  go(): void;
  /** Resolves with the signal or exit code that ended it. */
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
    async said(word) {
      let over: NodeJS.Signals | number | null | undefined;
      void ended.then((how) => (over = how));
      while (!out.includes(word)) {
        if (over !== undefined) throw new Error(`the peer ended (${over}) before it said ${word}: ${errors}`);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

/** The bundle lies below node_modules, because it imports packages from there. */
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
