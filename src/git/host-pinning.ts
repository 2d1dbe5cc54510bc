/**
 * Where a repository's host really is. The name is resolved once, every address is judged, and git
 * is pinned to what was judged (`http.curloptResolve`), so that a name that changes its mind
 * between the look and the connection gains nothing.
 */
import { lookup } from "node:dns/promises";
import { isPrivate } from "../core/lib/ip-ranges.ts";
import { TaskFailure } from "../core/failure.ts";
import { raceAbort } from "../core/lib/concurrency/async.ts";

/**
 * @returns what git is to be pinned to, or null for trusted hosts, which are used as they are.
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
  // A resolver cannot be called off, only left alone.
  const found = await raceAbort(resolve(hostname, { all: true }), signal).catch((cause: unknown) => {
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
