/**
 * The worker process (or, told `relay`, the helper that carries its connections out): one attempt,
 * from the environment to an exit code. SIGTERM is a wish to cancel: the work is saved first.
 */
import { WORKER_ENV, WORKER_EXIT, type Assignment } from "../src/core/protocol/worker.ts";
import { runWorker } from "./assemble.ts";
import { waitForAssignment } from "./connection/assignment.ts";
import { prepareRepository } from "./workspace/checkout.ts";

function setting(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === "") {
    process.stderr.write(`slipway worker: ${name} is not set. The worker is started by Slipway, not by hand.\n`);
    process.exit(WORKER_EXIT.lost);
  }
  return value;
}

const cancel = new AbortController();
process.on("SIGTERM", () => cancel.abort());
process.on("SIGINT", () => cancel.abort());

async function assignment(): Promise<Assignment | null> {
  const file = process.env[WORKER_ENV.assignment];
  if (file === undefined) return { token: setting(WORKER_ENV.token), attempt: Number(setting(WORKER_ENV.attempt)) };
  return await waitForAssignment(file, cancel.signal);
}

const socketPath = setting(WORKER_ENV.socket);
if (process.argv[2] === "relay") process.exit(await (await import("./connection/relay.ts")).runRelay(socketPath));
const root = setting(WORKER_ENV.workspace);
const stateDir = setting(WORKER_ENV.state);
const repository = prepareRepository(root, stateDir);
const mine = await assignment();
if (mine === null) process.exit(WORKER_EXIT.reported);
process.exit(await runWorker({ ...mine, socketPath, root, stateDir, repository, signal: cancel.signal }));
