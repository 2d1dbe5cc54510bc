/**
 * The relay that carries connections out of a container (worker/connection/forwarding/relay.ts), as
 * separate processes.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, it } from "vitest";
import { WORKER_ENV } from "../../../src/core/protocol/worker.ts";
import { eventually, ROOT } from "../../support/process/server.ts";

const dir = mkdtempSync(join(tmpdir(), "swr-"));
const path = join(dir, "b.sock");
const started: ChildProcess[] = [];
afterEach(() => {
  for (const child of started) child.kill("SIGKILL");
  rmSync(dir, { recursive: true, force: true });
});

/** Starts a relay; resolves when the socket path leads to it. */
async function relay(): Promise<ChildProcess> {
  const before = existsSync(path) ? statSync(path).ino : 0;
  const env = { ...process.env, [WORKER_ENV.socket]: path };
  const child = spawn(process.execPath, [join(ROOT, "dist/worker.mjs"), "relay"], {
    stdio: ["pipe", "pipe", "ignore"],
    env,
  });
  started.push(child);
  await eventually(async () => (existsSync(path) && statSync(path).ino !== before ? true : null), "it listens");
  return child;
}

it("[S6] a relay that ends after its successor has started removes only its own socket", async () => {
  const first = await relay();
  await relay();
  const ended = once(first, "exit");
  first.stdin?.end();
  await ended;
  const socket = connect(path);
  await once(socket, "connect");
  socket.destroy();
});
