/**
 * The engine's framing of a container's output without a terminal: stream (1 byte), 3 zeros, length
 * (4 bytes, big-endian), payload.
 */
import { Transform, type TransformCallback } from "node:stream";
import { EngineError, type Engine } from "../engine.ts";

const HEADER_BYTES = 8;
const STDOUT = 1;
export const TAIL_CHARACTERS = 4_000;
const TAIL_LINES = 200;

interface Piece {
  /** 1 = standard output, 2 = standard error. */
  readonly stream: number;
  readonly bytes: Buffer;
}

/** Incremental parser. Memory is bounded by one header: payloads are passed on as they arrive. */
class FrameParser {
  #header = Buffer.alloc(0);
  #stream = 0;
  #remaining = 0;

  /** The payload in this chunk; a payload may be split over several pieces. */
  *parse(chunk: Buffer): Generator<Piece> {
    let offset = 0;
    while (offset < chunk.length) {
      if (this.#remaining > 0) {
        const bytes = chunk.subarray(offset, offset + this.#remaining);
        this.#remaining -= bytes.length;
        offset += bytes.length;
        yield { stream: this.#stream, bytes };
        continue;
      }
      const length = Math.min(HEADER_BYTES - this.#header.length, chunk.length - offset);
      this.#header = Buffer.concat([this.#header, chunk.subarray(offset, offset + length)]);
      offset += length;
      if (this.#header.length < HEADER_BYTES) return;
      this.#stream = this.#header[0] ?? 0;
      this.#remaining = this.#header.readUInt32BE(4);
      this.#header = Buffer.alloc(0);
    }
  }
}

/** Passes the payload of standard output on and drops the rest. Respects backpressure. */
export class StandardOutput extends Transform {
  readonly #frames = new FrameParser();

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    for (const { stream, bytes } of this.#frames.parse(chunk)) if (stream === STDOUT) this.push(bytes);
    done();
  }
}

/** The text of both streams in order. A truncated last frame counts as far as it goes. */
export function unframe(bytes: Buffer): string {
  const pieces = [...new FrameParser().parse(bytes)].map((piece) => piece.bytes);
  return Buffer.concat(pieces).toString("utf8");
}

/** The last output of a container, at most 4,000 characters; empty when it is gone. */
export async function readLogTail(engine: Engine, name: string): Promise<string> {
  try {
    const query = { follow: false, stdout: true, stderr: true, tail: TAIL_LINES } as const;
    const bytes = await engine.call((docker, stop) => docker.getContainer(name).logs({ ...query, abortSignal: stop }));
    return unframe(bytes).slice(-TAIL_CHARACTERS);
  } catch (error) {
    if (error instanceof EngineError) return "";
    throw error;
  }
}
