/**
 * The entry point of the worker process: runs one attempt, from the environment to an exit code.
 * SIGTERM and SIGINT cancel the attempt; its work is saved before the process exits.
 *
 * With the argument `relay` the process runs the relay of exec-tunnel.ts instead, with `setup` one
 * command of the setup.
 */
import { WORKER_ENV, WORKER_EXIT, type Assignment } from "../src/core/protocol/worker.ts";
import { runWorker } from "./assemble.ts";
import { waitForAssignment } from "./connection/assignment.ts";
import { prepareRepository } from "./workspace/checkout.ts";

/** Exits when the variable is not set. */
function readEnv(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === "") {
    process.stderr.write(`slipway worker: ${name} is not set. Slipway starts the worker; do not start it by hand.\n`);
    process.exit(WORKER_EXIT.lost);
  }
  return value;
}

const cancel = new AbortController();
process.on("SIGTERM", () => cancel.abort());
process.on("SIGINT", () => cancel.abort());

async function readAssignment(): Promise<Assignment | null> {
  const file = process.env[WORKER_ENV.assignment];
  if (file === undefined) return { token: readEnv(WORKER_ENV.token), attempt: Number(readEnv(WORKER_ENV.attempt)) };
  return await waitForAssignment(file, cancel.signal);
}

const socketPath = readEnv(WORKER_ENV.socket);
if (process.argv[2] === "relay")
  process.exit(await (await import("./connection/forwarding/relay.ts")).runRelay(socketPath));
if (process.argv[2] === "setup") {
  const { runSetupShell } = await import("./workspace/setup/setup-shell.ts");
  process.exit(await runSetupShell(socketPath, readEnv(WORKER_ENV.token)));
}
const root = readEnv(WORKER_ENV.workspace);
const stateDir = readEnv(WORKER_ENV.state);
const repository = prepareRepository(root, stateDir);
const assignment = await readAssignment();
if (assignment === null) process.exit(WORKER_EXIT.reported);
process.exit(
  await runWorker({
    ...assignment,
    socketPath,
    root,
    stateDir,
    repository,
    workerFile: process.argv[1],
    signal: cancel.signal,
  }),
);
