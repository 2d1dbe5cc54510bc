/**
 * A second coordinator process for sandbox tests. Opens the adapter in its argument, prints
 * "ready", waits for a line on stdin, ensures one sandbox, prints "ensured", and runs until it is
 * killed. With `crashAt` it kills itself at that crash point.
 */
import { openDockerSandbox, type DockerSandboxOptions } from "../../../src/sandbox/docker/sandbox.ts";
import { openProcessSandbox, type ProcessSandboxOptions } from "../../../src/sandbox/process/sandbox.ts";
import type { SandboxSpec } from "../../../src/core/ports/sandbox.ts";

export type PeerAdapter =
  | { readonly kind: "docker"; readonly options: DockerSandboxOptions }
  | { readonly kind: "process"; readonly options: ProcessSandboxOptions };

export interface PeerOrder {
  readonly adapter: PeerAdapter;
  readonly spec: SandboxSpec;
  readonly crashAt?: string;
  /** The call after ensure. */
  readonly after?: "remove";
}

const order = JSON.parse(process.argv[2] ?? "{}") as PeerOrder;
const crashpoint = (name: string): void => {
  if (name === order.crashAt) process.kill(process.pid, "SIGKILL");
};
const { adapter } = order;
const sandbox =
  adapter.kind === "docker"
    ? openDockerSandbox({ ...adapter.options, crashpoint })
    : openProcessSandbox({ ...adapter.options, crashpoint });

process.stdin.once("data", () => {
  const ensured = sandbox.ensure(order.spec, new AbortController().signal);
  ensured
    .then(() => (order.after === "remove" ? sandbox.remove(order.spec.name) : undefined))
    .then(
      () => process.stdout.write("ensured\n"),
      (error: unknown) => {
        process.stderr.write(`${String(error)}\n`);
        process.exit(1);
      },
    );
});
setInterval(() => undefined, 1_000);
process.stdout.write("ready\n");
