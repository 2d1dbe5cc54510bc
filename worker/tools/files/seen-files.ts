/** What the agent has last seen of each file, so that it learns of changes by others. */
import { createHash } from "node:crypto";

/** Files that are remembered; the oldest are forgotten. */
const MOST = 1_000;

const digest = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("base64");

export class SeenFiles {
  readonly #digests = new Map<string, string>();

  /** @param path absolute. */
  remember(path: string, bytes: Buffer): void {
    this.#digests.delete(path);
    this.#digests.set(path, digest(bytes));
    const oldest = this.#digests.size > MOST ? this.#digests.keys().next().value : undefined;
    if (oldest !== undefined) this.#digests.delete(oldest);
  }

  /** False also for a file that was never seen. */
  hasChanged(path: string, bytes: Buffer): boolean {
    const known = this.#digests.get(path);
    return known !== undefined && known !== digest(bytes);
  }
}
