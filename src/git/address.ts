/**
 * Where a repository's host really is. The name is resolved once, every address is judged, and git is pinned to what was judged
 * (`http.curloptResolve`), so that a name that changes its mind between the look and the connection gains nothing.
 */
import { lookup } from "node:dns/promises";
import { BlockList, isIP } from "node:net";
import { TaskFailure } from "../failure.ts";

// Two lists: a rule for mapped IPv6 addresses would match every IPv4 address too.
const PRIVATE_4 = new BlockList();
const PRIVATE_6 = new BlockList();
for (const [net, bits] of [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.88.99.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["224.0.0.0", 4],
  ["240.0.0.0", 4],
] as const)
  PRIVATE_4.addSubnet(net, bits, "ipv4");
for (const [net, bits] of [
  ["::", 96],
  ["::ffff:0:0", 96],
  ["64:ff9b::", 96],
  ["64:ff9b:1::", 48],
  ["100::", 64],
  ["2001::", 32],
  ["2001:db8::", 32],
  ["2002::", 16],
  ["fc00::", 7],
  ["fe80::", 9],
  ["ff00::", 8],
] as const) {
  PRIVATE_6.addSubnet(net, bits, "ipv6");
}

export function isPrivate(address: string): boolean {
  return isIP(address) === 6 ? PRIVATE_6.check(address, "ipv6") : PRIVATE_4.check(address, "ipv4");
}

/**
 * @returns what git is to be pinned to, or null for trusted hosts, which are used as they are.
 * @throws TaskFailure `repo_unreachable` when the name does not resolve or any of its addresses is private; the signal's reason when aborted.
 */
export async function pinOf(
  url: string,
  trustedHosts: readonly string[],
  signal: AbortSignal,
  resolve: typeof lookup = lookup,
): Promise<string | null> {
  const { host, hostname, port, protocol } = new URL(url);
  if (trustedHosts.includes(host)) return null;
  const found = await unlessAborted(resolve(hostname, { all: true }), signal).catch((cause: unknown) => {
    signal.throwIfAborted();
    throw new TaskFailure("repo_unreachable", { detail: `The name ${hostname} does not resolve.`, cause });
  });
  const addresses = found.map((one) => one.address);
  if (addresses.length === 0 || addresses.some(isPrivate)) {
    throw new TaskFailure("repo_unreachable", {
      detail: `${hostname} points into a private network. An operator can allow it with SLIPWAY_TRUSTED_REPO_HOSTS.`,
    });
  }
  return `${hostname}:${port || (protocol === "https:" ? 443 : 80)}:${addresses.join(",")}`;
}

/** A resolver cannot be called off, only left alone. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let leave: () => void = () => undefined;
  const aborted = new Promise<never>((_, reject) => {
    leave = () => reject(signal.reason as Error);
    signal.addEventListener("abort", leave, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", leave);
  }
}
