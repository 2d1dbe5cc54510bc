/** How much repositories and clients may take of the server. */
import { whole, type Read } from "./values.ts";

export interface BoundSettings {
  /** Reverse proxies in front whose X-Forwarded-For is believed. */
  readonly trustProxy: number;
  /** Largest pack of a repository, MiB. */
  readonly maxRepoMb: number;
  /** Address space of a git that fetches or pushes, MiB. */
  readonly gitMemoryMb: number;
  /** Connections of one address; null = no limit. */
  readonly addressConnections: number | null;
}

const MEGABYTES = "a whole number of megabytes";
const MAX_REPO_MB = 10_240;
const GIT_MEMORY_MB = 2_048;
const ADDRESS_CONNECTIONS = 256;

export function readBounds(read: Read): BoundSettings {
  const trustProxy = read("trustProxy", whole(0, 10), "the number of reverse proxies in front, 0 to 10") ?? 0;
  const chosen = read("addressConnections", whole(0, 100_000), "a whole number from 0 to 100000");
  // Behind a trusted proxy all clients have the proxy's address.
  const byDefault = trustProxy > 0 ? null : ADDRESS_CONNECTIONS;
  return {
    trustProxy,
    maxRepoMb: read("maxRepoMb", whole(1, 1_048_576), MEGABYTES) ?? MAX_REPO_MB,
    gitMemoryMb: read("gitMemoryMb", whole(256, 1_048_576), MEGABYTES) ?? GIT_MEMORY_MB,
    addressConnections: chosen === null ? byDefault : chosen || null,
  };
}
