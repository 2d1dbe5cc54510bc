/** Which addresses are local, where the server may listen, and the listening itself. */
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import type { Config } from "./config.ts";
import { errorMessage, SlipwayError } from "../core/error.ts";
import type { Log } from "../core/ports/runtime.ts";

/** How long requests that are under way may take to finish at shutdown, ms. */
const DRAIN_MS = 1_000;
const DRAIN_POLL_MS = 20;

/** True for addresses that only this machine can reach. */
export function isLoopback(host: string): boolean {
  const name = host.toLowerCase().replace(/^\[|\]$/g, "");
  return name === "localhost" || name === "::1" || /^(?:::ffff:)?127(?:\.\d{1,3}){3}$/.test(name);
}

type Listening = Pick<Config, "host" | "admin" | "publicUrl" | "insecureLan">;

/**
 * Rule S8: beyond loopback the server listens only when an admin exists or is configured, so that
 * no stranger can become the first admin; and only where people come by https or from this machine
 * (as with a container whose port is published there), or the operator trusts the network.
 * @param hasAdmin whether the store knows an admin already.
 * @throws SlipwayError `config_invalid` when it must not listen.
 */
export function assertMayListen(config: Listening, hasAdmin: boolean, log: Pick<Log, "warn">): void {
  const { host, admin, publicUrl, insecureLan } = config;
  if (isLoopback(host)) return;
  if (admin === null && !hasAdmin)
    throw new SlipwayError(
      "config_invalid",
      `Listening on ${host} would let others reach a server that has no admin yet: set SLIPWAY_ADMIN_EMAIL and SLIPWAY_ADMIN_PASSWORD, or make the first admin on 127.0.0.1.`,
    );
  if (publicUrl !== null && (publicUrl.startsWith("https:") || isLoopback(new URL(publicUrl).hostname))) return;
  if (!insecureLan)
    throw new SlipwayError(
      "config_invalid",
      `Listening on ${host} without https would send passwords and tasks in clear. Put https in front and set SLIPWAY_PUBLIC_URL=https://..., or say --insecure-lan 1 (SLIPWAY_INSECURE_LAN=1) in a network that you trust. For a container whose port only this machine reaches: SLIPWAY_PUBLIC_URL=http://localhost:7080.`,
    );
  log.warn({ host }, "people reach this server without https: passwords, sessions and tasks can be read on the way");
}

/** @throws SlipwayError config_invalid when the address cannot be listened on. */
export async function listen(server: Server, { host, port }: Config, log: Log): Promise<void> {
  try {
    await new Promise<void>((done, failed) => {
      server.once("error", failed);
      server.listen(port, host, () => {
        server.off("error", failed);
        server.on("error", (error) => log.error({ error: errorMessage(error) }, "a connection could not be accepted"));
        done();
      });
    });
  } catch (error) {
    throw new SlipwayError(
      "config_invalid",
      `Cannot listen on ${host}:${port}: ${errorMessage(error)}. Choose another SLIPWAY_PORT.`,
    );
  }
}

/** Stops accepting, closes live connections, and lets requests that are under way finish. */
export async function closeServer(server: Server, closeLive: () => Promise<void>): Promise<void> {
  let isClosed = false;
  const closed = new Promise<void>((done) => server.close(() => done())).then(() => (isClosed = true));
  await closeLive();
  const deadline = Date.now() + DRAIN_MS;
  while (!isClosed && Date.now() < deadline) {
    server.closeIdleConnections();
    await Promise.race([closed, delay(DRAIN_POLL_MS)]);
  }
  server.closeAllConnections();
  await closed;
}

/** As people write it. */
export function formatAddress({ address, port, family }: AddressInfo, host: string): string {
  const shown = host === "0.0.0.0" || host === "::" ? "localhost" : family === "IPv6" ? `[${address}]` : address;
  return `http://${shown}:${port}`;
}
