/**
 * The digest of a log as the server makes it (docs/protocol.md): FNV-1a of 64 bits over the JSON of
 * its events, each followed by a line feed.
 */
import type { WireEvent } from "../../../../src/core/protocol/events.ts";

/** Events that are read at once, so that the page stays quick. */
const AT_ONCE = 200;

/** @returns 16 hexadecimal digits. */
export async function digestLog(events: readonly WireEvent[], signal: AbortSignal): Promise<string> {
  const encoder = new TextEncoder();
  let high = 0xcbf29ce4;
  let low = 0x84222325;
  for (let i = 0; i < events.length; i += AT_ONCE) {
    const text = events.slice(i, i + AT_ONCE).map((event) => `${JSON.stringify(event)}\n`);
    for (const byte of encoder.encode(text.join(""))) {
      const mixed = (low ^ byte) >>> 0;
      const product = mixed * 0x1b3;
      low = product >>> 0;
      high = (Math.imul(high, 0x1b3) + Math.floor(product / 2 ** 32) + (mixed << 8)) >>> 0;
    }
    await new Promise((resolve) => setTimeout(resolve));
    signal.throwIfAborted();
  }
  return [high, low].map((half) => half.toString(16).padStart(8, "0")).join("");
}
