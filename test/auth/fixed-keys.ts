/** Keys that are never rotated. */
import type { KeySource } from "../../src/core/ports/accounts.ts";

export const fixedKeys =
  (bytes: Buffer): KeySource =>
  () => [{ id: "00000000", bytes, retiredAt: null }];
