/** A client that speaks the socket protocol byte by byte, so that it can speak it wrongly. */
import { connect, type Socket } from "node:net";
import { until } from "./live-server.ts";

export interface RawSocket {
  readonly socket: Socket;
  /** The status line's number of the answer to the upgrade. */
  readonly status: number;
  readonly head: string;
  send(bytes: Buffer): void;
  /** Texts of the complete text frames so far. */
  texts(): string[];
  /** The code of the server's close frame, or null when none came. */
  closeCode(): number | null;
  /** Resolves when the server ended the connection. */
  ended(ms?: number): Promise<void>;
}

export interface FrameOptions {
  readonly opcode?: number;
  readonly fin?: boolean;
  readonly rsv1?: boolean;
  readonly masked?: boolean;
  /** Declares a length that differs from the payload's. */
  readonly claims?: bigint;
}

export function frame(payload: string | Buffer, options: FrameOptions = {}): Buffer {
  const data = Buffer.from(payload);
  const { opcode = 1, fin = true, rsv1 = false, masked = true } = options;
  const length = options.claims ?? BigInt(data.length);
  const first = (fin ? 0x80 : 0) | (rsv1 ? 0x40 : 0) | opcode;
  const bit = masked ? 0x80 : 0;
  let head: Buffer;
  if (length < 126n) head = Buffer.from([first, bit | Number(length)]);
  else if (length < 65_536n) head = Buffer.from([first, bit | 126, Number(length >> 8n), Number(length & 255n)]);
  else {
    head = Buffer.alloc(10);
    head.set([first, bit | 127]);
    head.writeBigUInt64BE(length, 2);
  }
  // A mask of zeros leaves the payload unchanged.
  return Buffer.concat(masked ? [head, Buffer.alloc(4), data] : [head, data]);
}

export async function rawSocket(
  port: number,
  headers: Readonly<Record<string, string>> = {},
  path = "/v1/stream",
): Promise<RawSocket> {
  const socket = connect(port, "127.0.0.1");
  let received = Buffer.alloc(0);
  let over = false;
  socket.on("data", (chunk) => (received = Buffer.concat([received, chunk])));
  socket.on("error", () => undefined);
  socket.on("close", () => (over = true));
  await new Promise((resolve) => socket.once("connect", resolve));
  const all = {
    Host: "127.0.0.1",
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": Buffer.alloc(16, 7).toString("base64"),
    ...headers,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`GET ${path} HTTP/1.1\r\n${lines.join("")}\r\n`);
  await until("an answer to the upgrade", () => received.includes("\r\n\r\n") || over);
  const end = received.indexOf("\r\n\r\n");
  const head = received.subarray(0, end).toString();
  received = received.subarray(end + 4);

  return {
    socket,
    head,
    status: Number(head.split(" ")[1]),
    send: (bytes) => void socket.write(bytes),
    texts: () => framesIn(received).flatMap(({ opcode, payload }) => (opcode === 1 ? [payload.toString()] : [])),
    closeCode: () =>
      framesIn(received)
        .find(({ opcode }) => opcode === 8)
        ?.payload.readUInt16BE(0) ?? null,
    ended: (ms) => until("the end of the connection", () => over, ms),
  };
}

function framesIn(bytes: Buffer): { opcode: number; payload: Buffer }[] {
  const frames = [];
  for (let at = 0; at + 2 <= bytes.length;) {
    const opcode = bytes[at]! & 15;
    let length = bytes[at + 1]! & 127;
    let start = at + 2;
    if (length === 126) {
      length = bytes.readUInt16BE(start);
      start += 2;
    } else if (length === 127) {
      length = Number(bytes.readBigUInt64BE(start));
      start += 8;
    }
    if (start + length > bytes.length) break;
    frames.push({ opcode, payload: bytes.subarray(start, start + length) });
    at = start + length;
  }
  return frames;
}
