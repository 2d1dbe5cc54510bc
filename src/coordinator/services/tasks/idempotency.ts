/** Fingerprints of request bodies: the same key must come with the same body (rule R5). */
import { createHash } from "node:crypto";

export interface Idempotency {
  readonly key: string;
  readonly fingerprint: string;
}

export function digest(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}
