/** JSON requests over the broker's unix socket. */
import { Agent, request as httpRequest } from "node:http";

export interface Answer {
  readonly status: number;
  /** The parsed body; null when it is not JSON. */
  readonly body: unknown;
}

export interface Call {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly body?: string;
  /** Given up after this many ms without a complete answer. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export class BrokerSocket {
  readonly #path: string;
  readonly #token: string;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 8 });

  constructor(path: string, token: string) {
    this.#path = path;
    this.#token = token;
  }

  /** Resolves with whatever was answered; rejects when nothing complete was. */
  async call(call: Call): Promise<Answer> {
    const signal = AbortSignal.any([call.signal, AbortSignal.timeout(call.timeoutMs)]);
    return await new Promise((resolve, reject) => {
      const headers: Record<string, string | number> = {
        authorization: `Bearer ${this.#token}`,
        accept: "application/json",
      };
      if (call.body !== undefined) {
        headers["content-type"] = "application/json";
        headers["content-length"] = Buffer.byteLength(call.body);
      }
      const options = {
        socketPath: this.#path,
        path: call.path,
        method: call.method,
        headers,
        agent: this.#agent,
        signal,
      };
      const request = httpRequest(options, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("aborted", () => reject(new Error("the answer was cut short")));
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, body: parse(Buffer.concat(chunks).toString("utf8")) }),
        );
      });
      request.on("error", reject);
      request.end(call.body);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}

/** True when nobody listens: worth knocking again soon, because it costs nothing. */
export function isDisconnected(thrown: unknown): boolean {
  const code = thrown instanceof Error && "code" in thrown ? thrown.code : null;
  return code === "ECONNREFUSED" || code === "ENOENT" || code === "ECONNRESET" || code === "EPIPE";
}
