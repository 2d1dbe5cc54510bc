/** JSON requests over the broker's unix socket. */
import { Agent, request as httpRequest } from "node:http";

export interface BrokerResponse {
  readonly status: number;
  /** The parsed body; null when it is not JSON. */
  readonly body: unknown;
}

export interface BrokerRequest {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly body?: string;
  /** Rejects when no complete response arrives within this many ms. */
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

  /** Resolves with a complete response of any status; rejects when there is none. */
  async request({ method, path, body, timeoutMs, signal }: BrokerRequest): Promise<BrokerResponse> {
    return await new Promise((resolve, reject) => {
      const headers: Record<string, string | number> = {
        authorization: `Bearer ${this.#token}`,
        accept: "application/json",
      };
      if (body !== undefined) {
        headers["content-type"] = "application/json";
        headers["content-length"] = Buffer.byteLength(body);
      }
      const options = {
        socketPath: this.#path,
        path,
        method,
        headers,
        agent: this.#agent,
        signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
      };
      const request = httpRequest(options, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("aborted", () => reject(new Error("the response was cut off")));
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, body: parseJson(Buffer.concat(chunks).toString("utf8")) }),
        );
      });
      request.on("error", reject);
      request.end(body);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}

/** True when nothing listens on the socket, so that a retry costs little. */
export function isDisconnected(thrown: unknown): boolean {
  const code = thrown instanceof Error && "code" in thrown ? thrown.code : null;
  return code === "ECONNREFUSED" || code === "ENOENT" || code === "ECONNRESET" || code === "EPIPE";
}
