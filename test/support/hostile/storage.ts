/**
 * S3-compatible storage behind a proxy that can fail. The proxy knows uploads from what passed, and
 * lists and aborts them where the storage cannot.
 */
import { createServer, request as startRequest, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { hasServer, startServer, type ServerName } from "./storage-servers.ts";

/** What the proxy does with one request; null = it passes. */
export type Fault =
  | { readonly status: number; readonly code: string }
  /** After so many bytes of the request, or of the answer. */
  | { readonly cutAfter: number; readonly side: "request" | "answer" }
  /** Takes everything and never answers. */
  | "stall";

export interface Passed {
  readonly method: string;
  /** With the query. */
  readonly path: string;
  readonly range: string | undefined;
}

export interface Storage {
  readonly url: string;
  readonly bucket: string;
  readonly keyId: string;
  readonly secret: string;
  /** Settings that lead here. */
  readonly env: Record<string, string>;
  /** Every request, also those that a fault met. */
  readonly seen: Passed[];
  /** Uploads that have begun and not ended, by id. */
  readonly uploads: ReadonlyMap<string, string>;
  /** Decides about each request from now on. */
  fail(fault: (request: Passed) => Fault | null): void;
  /** Requests pass again, and those that stall end. */
  heal(): void;
  close(): Promise<void>;
}

/** Distinct from anything that a log contains anyway. */
export const BUCKET = "slipway-test";

/** False where the package does not load; in CI it must. */
export const hasStorage = hasServer("s3rver");

export async function startStorage(name: ServerName = "s3rver"): Promise<Storage> {
  const real = await startServer(name, BUCKET);
  const { port, keyId, secret } = real;
  const seen: Passed[] = [];
  const uploads = new Map<string, string>();
  const stalled = new Set<IncomingMessage>();
  let decide: (request: Passed) => Fault | null = () => null;
  const server = createServer((request, response) => {
    const passed = { method: request.method ?? "", path: request.url ?? "", range: request.headers.range };
    seen.push(passed);
    const fault = decide(passed);
    if (fault === "stall") {
      stalled.add(request.resume());
      return;
    }
    if (fault !== null && "status" in fault) return refuse(request, response, fault.status, fault.code);
    if (fault === null && !real.hasUploads && answerUploads(request, response, uploads)) return;
    forward({ request, response, port, uploads, cut: fault });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const heal = (): void => {
    decide = () => null;
    for (const request of stalled) request.destroy();
    stalled.clear();
  };
  return {
    url,
    bucket: BUCKET,
    keyId,
    secret,
    env: {
      SLIPWAY_S3_ENDPOINT: url,
      SLIPWAY_S3_ACCESS_KEY_ID: keyId,
      SLIPWAY_S3_SECRET_ACCESS_KEY: secret,
    },
    seen,
    uploads,
    fail: (fault) => void (decide = fault),
    heal,
    async close() {
      heal();
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
      await real.close();
    },
  };
}

function refuse(request: IncomingMessage, response: ServerResponse, status: number, code: string): void {
  request.resume().once("end", () => {
    response.writeHead(status, { "content-type": "application/xml" });
    response.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>${code}</Message></Error>`);
  });
}

interface Forward {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly port: number;
  readonly uploads: Map<string, string>;
  readonly cut: Exclude<Fault, "stall" | { readonly status: number }> | null;
}

function forward({ request, response, port, uploads, cut }: Forward): void {
  const { method, url, headers } = request;
  const cutSocket = (): void => void request.socket.destroy();
  const outgoing = startRequest({ host: "127.0.0.1", port, method, path: url, headers }, (incoming) => {
    response.writeHead(incoming.statusCode ?? 500, incoming.headers);
    let sent = 0;
    let text = "";
    incoming.on("data", (piece: Buffer) => {
      if (cut?.side === "answer" && sent + piece.length > cut.cutAfter) {
        response.write(piece.subarray(0, Math.max(0, cut.cutAfter - sent)), cutSocket);
        incoming.destroy();
        return;
      }
      sent += piece.length;
      if (method === "POST" && text.length < 10_000) text += piece.toString("utf8");
      if (!response.write(piece)) {
        incoming.pause();
        response.once("drain", () => incoming.resume());
      }
    });
    incoming.once("end", () => {
      noteUpload(`${method} ${url}`, incoming.statusCode ?? 500, text, uploads);
      response.end();
    });
    incoming.on("error", cutSocket);
  });
  outgoing.on("error", cutSocket);
  let received = 0;
  request.on("data", (piece: Buffer) => {
    received += piece.length;
    if (cut?.side === "request" && received > cut.cutAfter) {
      outgoing.destroy();
      cutSocket();
    } else if (!outgoing.write(piece)) {
      request.pause();
      outgoing.once("drain", () => request.resume());
    }
  });
  request.once("end", () => outgoing.end());
  request.once("close", () => !request.complete && outgoing.destroy());
}

/** Few, so that there is more than one page. */
const UPLOADS_PER_PAGE = 2;

function noteUpload(request: string, status: number, text: string, uploads: Map<string, string>): void {
  const [method = "", url = ""] = request.split(" ");
  const { pathname, searchParams } = new URL(url, "http://storage");
  const [, begun] = /<UploadId>([^<]+)</.exec(text) ?? [];
  if (method === "POST" && searchParams.has("uploads") && begun !== undefined)
    uploads.set(begun, decodeURIComponent(pathname.replace(/^\/[^/]+\//, "")));
  const isComplete = method === "POST" && text.includes("CompleteMultipartUploadResult");
  const isAborted = method === "DELETE" && status === 204;
  if (isComplete || isAborted) uploads.delete(searchParams.get("uploadId") ?? "");
}

function answerUploads(request: IncomingMessage, response: ServerResponse, uploads: Map<string, string>): boolean {
  const { searchParams } = new URL(request.url ?? "", "http://storage");
  const id = searchParams.get("uploadId");
  if (request.method === "DELETE" && id !== null) {
    response.writeHead(uploads.delete(id) ? 204 : 404).end();
    return true;
  }
  if (request.method !== "GET" || !searchParams.has("uploads")) return false;
  const begin = searchParams.get("prefix") ?? "";
  const after = `${searchParams.get("key-marker") ?? ""}\n${searchParams.get("upload-id-marker") ?? ""}`;
  const sorted = [...uploads]
    .map(([id, key]) => ({ id, key, place: `${key}\n${id}` }))
    .filter(({ key, place }) => key.startsWith(begin) && place > after)
    .toSorted((a, b) => (a.place < b.place ? -1 : 1));
  const page = sorted.slice(0, UPLOADS_PER_PAGE);
  const last = page.at(-1);
  const isTruncated = sorted.length > page.length;
  const rows = page.map(({ id, key }) => `<Upload><Key>${key}</Key><UploadId>${id}</UploadId></Upload>`);
  const next =
    isTruncated && last !== undefined
      ? `<NextKeyMarker>${last.key}</NextKeyMarker><NextUploadIdMarker>${last.id}</NextUploadIdMarker>`
      : "";
  response.writeHead(200, { "content-type": "application/xml" });
  response.end(
    `<?xml version="1.0"?><ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>${isTruncated}</IsTruncated>${next}${rows.join("")}</ListMultipartUploadsResult>`,
  );
  return true;
}
