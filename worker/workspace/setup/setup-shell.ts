/**
 * One command of the setup: a process that asks the broker for the variables, runs the command with
 * them, and removes secrets from what it writes. It ends with the command, and its memory with it.
 */
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { startProcess } from "../../../src/core/lib/runtime/process-group.ts";
import { Redactor } from "../../../src/core/lib/json/redaction.ts";
import { WORKER_ENV, workerVariablesSchema } from "../../../src/core/protocol/worker.ts";
import { BrokerSocket } from "../../connection/broker-socket.ts";
import { SETUP_ENV } from "../../tools/shell/variables.ts";

const ANSWER_MS = 30_000;
/** The wait for output that is still in the pipe when the command has ended. */
const DRAIN_MS = 500;
/** As shells say that a signal has ended a command. */
const SIGNALLED = 128;

/** @returns the exit code of the command. */
export async function runSetupShell(socketPath: string, token: string): Promise<number> {
  const variables = await askVariables(new BrokerSocket(socketPath, token));
  const env: NodeJS.ProcessEnv = { ...process.env };
  const command = env[SETUP_ENV.command] ?? "";
  for (const name of [WORKER_ENV.socket, WORKER_ENV.token, ...Object.values(SETUP_ENV)]) delete env[name];
  for (const { name, value } of variables) env[name] = value;
  const secrets = variables.filter(({ secret }) => secret).map(({ value }) => value);
  const output = new Redactor(secrets).stream();
  const child = await startProcess("/bin/bash", ["--norc", "-c", `exec 2>&1\n${command}`], {
    env,
    stdio: ["ignore", "pipe", "ignore"],
  });
  child.stdout.setEncoding("utf8").on("data", (piece: string) => void process.stdout.write(output.push(piece)));
  const drained = once(child.stdout, "close");
  const [code] = (await once(child, "exit")) as [number | null];
  // A child of the command may keep the output open.
  await Promise.race([drained, delay(DRAIN_MS)]);
  process.stdout.write(output.end());
  return code ?? SIGNALLED;
}

async function askVariables(socket: BrokerSocket) {
  const never = new AbortController().signal;
  const request = { method: "GET", path: "/worker/v1/variables", timeoutMs: ANSWER_MS, signal: never } as const;
  const { status, body } = await socket.request(request);
  socket.close();
  if (status !== 200) throw new Error(`the variables could not be read: the server answered ${status}`);
  return workerVariablesSchema.parse(body).variables;
}
