/** A browser at `https://slipway.test`, a name that only it and a test's ACME server know. */
import { request } from "node:https";
import { WebSocket } from "ws";
import { eventually } from "../../support/process/server.ts";

export const ORIGIN = "https://slipway.test";

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
}

export interface HttpsClient {
  call(method: string, path: string, body?: object, headers?: Record<string, string>): Promise<Answer>;
  /** Watches the task over a socket until it is done. */
  untilDone(id: string, auth: Record<string, string>): Promise<void>;
}

/** @param ca the certificate that the server's must come from. */
export function openHttpsClient(port: number, ca: string): HttpsClient {
  const target = { host: "127.0.0.1", servername: "slipway.test" };

  function call(method: string, path: string, body?: object, headers: Record<string, string> = {}): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const sent = body === undefined ? undefined : JSON.stringify(body);
      const type =
        sent === undefined ? {} : { "content-type": "application/json", "content-length": String(sent.length) };
      const options = { ...target, port, ca, method, path, agent: false };
      const outgoing = request({ ...options, headers: { host: "slipway.test", ...type, ...headers } }, (answer) => {
        let text = "";
        answer.setEncoding("utf8").on("data", (piece: string) => (text += piece));
        answer.on("end", () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text }));
      });
      outgoing.on("error", reject).end(sent);
    });
  }

  async function untilDone(id: string, auth: Record<string, string>): Promise<void> {
    const { ticket } = JSON.parse((await call("POST", "/v1/tickets", {}, auth)).text) as { ticket: string };
    const options = { ca, servername: "slipway.test", headers: { host: "slipway.test", origin: ORIGIN } };
    const socket = new WebSocket(`wss://127.0.0.1:${port}/v1/stream`, ["slipway.v1", `ticket.${ticket}`], options);
    const frames: string[] = [];
    socket.on("message", (data: Buffer) => frames.push(String(data)));
    await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
    socket.send(JSON.stringify({ type: "subscribe", topic: `task:${id}`, after: 0 }));
    const isSettled = (frame: string): boolean => /"to":"(?:done|failed|cancelled)"/.test(frame);
    try {
      await eventually(async () => (frames.some(isSettled) ? true : null), "the task settles");
      if (!frames.some((frame) => frame.includes('"to":"done"'))) throw new Error(frames.join("\n").slice(-3_000));
    } finally {
      socket.close();
    }
  }

  return { call, untilDone };
}
