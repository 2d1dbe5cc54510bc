/** The worker process: one attempt, from the environment to an exit code. SIGTERM is a wish to cancel: the work is saved first. */
import { WORKER_ENV, WORKER_EXIT } from "../src/worker-wire.ts";
import { runWorker } from "./assemble.ts";

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

const code = await runWorker({
  socketPath: setting(WORKER_ENV.socket),
  token: setting(WORKER_ENV.token),
  attempt: Number(setting(WORKER_ENV.attempt)),
  root: setting(WORKER_ENV.workspace),
  stateDir: setting(WORKER_ENV.state),
  signal: cancel.signal,
});
process.exit(code);
