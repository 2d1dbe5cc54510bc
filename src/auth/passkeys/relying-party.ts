/** For whom passkeys are made: the domain and the origin under which browsers reach the server. */
import { isIP } from "node:net";

export interface RelyingParty {
  /** The domain. A passkey signs for this one only. */
  readonly rpId: string;
  /** The only origin whose signatures count. */
  readonly origin: string;
}

/**
 * Null when WebAuthn allows no passkey at the address: it wants a domain name and https, or
 * localhost, which also stands for the loopback addresses.
 */
export function relyingPartyOf(baseUrl: string): RelyingParty | null {
  const url = new URL(baseUrl);
  if (isLoopbackIp(url.hostname)) url.hostname = "localhost";
  const { hostname, protocol, origin } = url;
  const isLocal = hostname === "localhost" || hostname.endsWith(".localhost");
  if (isIP(bare(hostname)) !== 0 || (protocol !== "https:" && !isLocal)) return null;
  return { rpId: hostname, origin };
}

const bare = (hostname: string): string => hostname.replace(/^\[|\]$/g, "");

function isLoopbackIp(hostname: string): boolean {
  const ip = bare(hostname);
  return ip === "::1" || (isIP(ip) === 4 && ip.startsWith("127."));
}
