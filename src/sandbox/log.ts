/** The tail of a container's log. Without a terminal the engine wraps each piece in a frame: stream (1 byte), 3 zeros, length (4 bytes, big-endian). */

const HEADER = 8;
export const TAIL_CHARACTERS = 4_000;

/** The text of all frames in order. A frame that is cut short counts as far as it goes. */
export function unframe(bytes: Buffer): string {
  const parts: Buffer[] = [];
  for (let at = 0; at + HEADER <= bytes.length;) {
    const length = bytes.readUInt32BE(at + 4);
    parts.push(bytes.subarray(at + HEADER, at + HEADER + length));
    at += HEADER + length;
  }
  return Buffer.concat(parts).toString("utf8");
}

export function tailOfLog(bytes: Buffer): string {
  return unframe(bytes).slice(-TAIL_CHARACTERS);
}
