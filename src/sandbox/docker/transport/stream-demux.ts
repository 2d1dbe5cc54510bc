/**
 * The tail of a container's log. Without a terminal the engine wraps each piece in a frame: stream
 * (1 byte), 3 zeros, length (4 bytes, big-endian).
 */
import { EngineError, type Engine } from "../engine.ts";

const HEADER = 8;
export const TAIL_CHARACTERS = 4_000;
const TAIL_LINES = 200;

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

function tailOfLog(bytes: Buffer): string {
  return unframe(bytes).slice(-TAIL_CHARACTERS);
}

/** The last of what a container said; empty when it is gone. */
export async function tailOf(engine: Engine, name: string): Promise<string> {
  try {
    const wanted = { follow: false, stdout: true, stderr: true, tail: TAIL_LINES } as const;
    return tailOfLog(
      await engine.call((docker, stop) => docker.getContainer(name).logs({ ...wanted, abortSignal: stop })),
    );
  } catch (error) {
    if (error instanceof EngineError) return "";
    throw error;
  }
}
