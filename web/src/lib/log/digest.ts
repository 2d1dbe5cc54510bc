/**
 * The digest of a log as the server makes it (docs/protocol.md): FNV-1a of 64 bits over the JSON of
 * its events, each followed by a line feed.
 */
import type { WireEvent } from "../../../../src/core/protocol/events.ts";

/** Events that are read at once, so that the page stays quick. */
const AT_ONCE = 200;

/** FNV-1a of 64 bits, in two halves. */
export class Fnv {
  #high = 0xcbf29ce4;
  #low = 0x84222325;

  add(bytes: Uint8Array): this {
    for (const byte of bytes) {
      const mixed = (this.#low ^ byte) >>> 0;
      const product = mixed * 0x1b3;
      this.#low = product >>> 0;
      this.#high = (Math.imul(this.#high, 0x1b3) + Math.floor(product / 2 ** 32) + (mixed << 8)) >>> 0;
    }
    return this;
  }

  /** 16 hexadecimal digits. */
  toString(): string {
    return [this.#high, this.#low].map((half) => half.toString(16).padStart(8, "0")).join("");
  }
}

/** @returns 16 hexadecimal digits. */
export async function digestLog(events: readonly WireEvent[], signal: AbortSignal): Promise<string> {
  const encoder = new TextEncoder();
  const digest = new Fnv();
  for (let i = 0; i < events.length; i += AT_ONCE) {
    const text = events.slice(i, i + AT_ONCE).map((event) => `${JSON.stringify(event)}\n`);
    digest.add(encoder.encode(text.join("")));
    await new Promise((resolve) => setTimeout(resolve));
    signal.throwIfAborted();
  }
  return digest.toString();
}
