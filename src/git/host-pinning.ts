/**
 * Protection against DNS rebinding. The host name of a repository is resolved once, every address
 * is checked, and git is pinned to the checked addresses (`http.curloptResolve`), so that a DNS
 * change between the check and the connection has no effect.
 */
import { lookup } from "node:dns/promises";
import { isPrivate } from "../core/lib/ip-ranges.ts";
import { TaskFailure } from "../core/failure.ts";
import { raceAbort } from "../core/lib/concurrency/async.ts";

/**
 * @returns `host:port:addresses` for git, or null for trusted hosts, which git resolves itself.
 * @throws TaskFailure `repo_unreachable` when the name does not resolve or any of its addresses is
 * private; the signal's reason when aborted.
 */
export async function resolvePin(
  url: string,
  trustedHosts: readonly string[],
  signal: AbortSignal,
  resolve: typeof lookup = lookup,
): Promise<string | null> {
  const { host, hostname, port, protocol } = new URL(url);
  if (trustedHosts.includes(host)) return null;
  // `lookup` cannot be cancelled: after an abort its result is ignored.
  const results = await raceAbort(resolve(hostname, { all: true }), signal).catch((cause: unknown) => {
    signal.throwIfAborted();
    throw new TaskFailure("repo_unreachable", { detail: `The name ${hostname} does not resolve.`, cause });
  });
  const addresses = results.map(({ address }) => address);
  if (addresses.length === 0 || addresses.some(isPrivate)) {
    throw new TaskFailure("repo_unreachable", {
      detail: `${hostname} points into a private network. An operator can allow it with SLIPWAY_TRUSTED_REPO_HOSTS.`,
    });
  }
  return `${hostname}:${port || (protocol === "https:" ? 443 : 80)}:${addresses.join(",")}`;
}
