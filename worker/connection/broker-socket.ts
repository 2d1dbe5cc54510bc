/** Requests over the broker's unix socket. */
import { createWriteStream } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { pipeline } from "node:stream/promises";

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

  /**
   * Writes the body of a response with the status 200 to a file, whole or not at all.
   * @returns the status. Rejects when there is no complete response, or with the system's error.
   */
  async download({ path, timeoutMs, signal }: Omit<BrokerRequest, "method" | "body">, file: string): Promise<number> {
    const within = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const headers = { authorization: `Bearer ${this.#token}` };
      const options = { socketPath: this.#path, path, headers, agent: this.#agent, signal: within };
      httpRequest(options, resolve).on("error", reject).end();
    });
    if (response.statusCode !== 200) {
      response.resume();
      return response.statusCode ?? 0;
    }
    const draft = `${file}.part`;
    try {
      await pipeline(response, createWriteStream(draft, { mode: 0o600 }), { signal: within });
      await rename(draft, file);
    } finally {
      await rm(draft, { force: true });
    }
    return 200;
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

/** True when a file could not be written: another request would not help. */
export function isOfDisk(thrown: unknown): boolean {
  const code = thrown instanceof Error && "code" in thrown ? String(thrown.code) : "";
  return ["ENOSPC", "EDQUOT", "EACCES", "EROFS", "EISDIR", "ENOTDIR", "EMFILE"].includes(code);
}
