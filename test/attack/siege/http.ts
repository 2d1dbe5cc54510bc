/** HTTP as attackers speak it: from an address of their own, and without the client's manners. */
import { request } from "node:http";
import { connect, type Socket } from "node:net";

export interface Answer {
  /** 0 = the connection ended without an answer. */
  readonly status: number;
  readonly body: string;
}

export interface RawCall {
  readonly method: string;
  readonly url: string;
  /** Any address of 127.0.0.0/8 on Linux. */
  readonly from: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

const TIMEOUT_MS = 20_000;
const BODY_CHARACTERS = 100_000;

/** Never rejects. */
export function callRaw({ method, url, from, headers, body }: RawCall): Promise<Answer> {
  return new Promise((resolve) => {
    const options = { method, localAddress: from, headers: headers ?? {}, agent: false, timeout: TIMEOUT_MS };
    const outgoing = request(url, options, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (piece: string) => (text = (text + piece).slice(0, BODY_CHARACTERS)));
      response.on("error", () => undefined);
      response.on("close", () => resolve({ status: response.statusCode ?? 0, body: text }));
    });
    outgoing.on("timeout", () => outgoing.destroy(new Error("timeout")));
    outgoing.on("error", () => resolve({ status: 0, body: "" }));
    outgoing.end(body);
  });
}

export const callJson = (call: Omit<RawCall, "body">, body: unknown): Promise<Answer> =>
  callRaw({
    ...call,
    headers: { "content-type": "application/json", ...call.headers },
    body: JSON.stringify(body),
  });

/** A connection that sends this and reads nothing. It ends when the server or the test ends it. */
export function openSilent(url: string, from: string, sent: string): Socket {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port), localAddress: from });
  socket.on("error", () => undefined);
  socket.write(sent);
  return socket;
}
