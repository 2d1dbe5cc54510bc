/** Requests over the broker's unix socket. */
import { createWriteStream } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
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

  /** Resolves with a response of any status, whose body the caller reads. */
  async open({ path, timeoutMs, signal }: Omit<BrokerRequest, "method" | "body">): Promise<IncomingMessage> {
    const within = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    return await new Promise<IncomingMessage>((resolve, reject) => {
      const headers = { authorization: `Bearer ${this.#token}` };
      const options = { socketPath: this.#path, path, headers, agent: this.#agent, signal: within };
      httpRequest(options, resolve).on("error", reject).end();
    });
  }

  /** Sends a body in pieces. An answer that comes before its end ends it. */
  async upload(
    { path, timeoutMs, signal }: Omit<BrokerRequest, "method" | "body">,
    content: AsyncIterable<Uint8Array>,
  ): Promise<BrokerResponse> {
    const answered = new AbortController();
    const within = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    const headers = { authorization: `Bearer ${this.#token}`, "content-type": "application/x-tar" };
    const options = { socketPath: this.#path, path, method: "PUT", headers, agent: false, signal: within } as const;
    const request = httpRequest(options);
    const answer = new Promise<BrokerResponse>((resolve, reject) => {
      request.on("error", reject);
      request.on("response", (response) => {
        text(response)
          .then((body) => resolve({ status: response.statusCode ?? 0, body: parseJson(body) }), reject)
          .finally(() => answered.abort());
      });
    });
    // The error of the content says more than that of the request that it ends.
    const sent = pipeline(Readable.from(content), request, { signal: answered.signal }).catch((error: unknown) => {
      if (!answered.signal.aborted) throw error;
    });
    const [, response] = await Promise.all([sent, answer]);
    return response;
  }

  /**
   * Writes the body of a response with the status 200 to a file, whole or not at all.
   * @returns the status. Rejects when there is no complete response, or with the system's error.
   */
  async download({ path, timeoutMs, signal }: Omit<BrokerRequest, "method" | "body">, file: string): Promise<number> {
    const within = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    const response = await this.open({ path, timeoutMs, signal });
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

function parseJson(json: string): unknown {
  try {
    return JSON.parse(json) as unknown;
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
