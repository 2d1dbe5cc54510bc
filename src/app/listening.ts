/** Which addresses are local, and where the server may listen. */
import type { Config } from "./config.ts";
import { SlipwayError } from "../core/error.ts";

/** True for addresses that only this machine can reach. */
export function isLoopback(host: string): boolean {
  const name = host.toLowerCase().replace(/^\[|\]$/g, "");
  return name === "localhost" || name === "::1" || /^(?:::ffff:)?127(?:\.\d{1,3}){3}$/.test(name);
}

/**
 * Rule S8: beyond loopback the server listens only when an admin exists or is configured, so that
 * no stranger can become the first admin.
 * @param hasAdmin whether the store knows an admin already.
 * @throws SlipwayError `config_invalid` when it must not listen.
 */
export function assertMayListen(config: Pick<Config, "host" | "admin">, hasAdmin: boolean): void {
  if (isLoopback(config.host) || config.admin !== null || hasAdmin) return;
  throw new SlipwayError(
    "config_invalid",
    `Listening on ${config.host} would let others reach a server that has no admin yet: set SLIPWAY_ADMIN_EMAIL and SLIPWAY_ADMIN_PASSWORD, or make the first admin on 127.0.0.1.`,
  );
}
