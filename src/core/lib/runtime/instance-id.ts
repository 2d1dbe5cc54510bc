import { createHash } from "node:crypto";

/** Distinguishes installations on one machine, by their data folders; constant across restarts. */
export function deriveInstanceId(dir: string): string {
  return createHash("sha256").update(dir).digest("hex").slice(0, 12);
}
