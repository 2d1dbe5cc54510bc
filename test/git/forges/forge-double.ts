/** What the doubles of all forges have in common: a server that can be made to fail. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { openForges, type ForgesOptions } from "../../../src/git/forges/open-forges.ts";
import type { PullRequestRequest, Forge } from "../../../src/core/ports/repositories.ts";

export interface SeenPull {
  readonly number: number;
  readonly title: string;
  readonly body: string;
  readonly head: string;
  readonly base: string;
  readonly draft: boolean;
  readonly state: "open" | "closed" | "merged";
}

export interface Fault {
  readonly method: "GET" | "POST";
  /** Of the path; absent = every one. */
  readonly path?: RegExp;
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** `lost`: the forge does it, and the answer does not arrive. `hang`: there is no answer. */
  readonly how?: "lost" | "hang";
  readonly times?: number;
}

export interface ForgeDouble {
  readonly url: string;
  readonly apiUrl: string;
  /** Of its one repository, without `.git`. */
  readonly repo: string;
  readonly token: string;
  readonly requests: { readonly method: string; readonly path: string; readonly headers: IncomingMessage["headers"] }[];
  open(options?: { readonly trusted?: boolean; readonly timeoutMs?: number }): {
    readonly forge: Forge;
    readonly close: () => Promise<void>;
  };
  pulls(): Promise<SeenPull[]>;
  edit(number: number, changes: { readonly title: string; readonly body: string }): Promise<void>;
  /** Adds checks to the newest commit of a pull request. */
  report(number: number, checks: Readonly<Record<string, "passed" | "failed" | "running">>): Promise<void>;
  settle(number: number, how: "close" | "merge"): Promise<void>;
  fail(fault: Fault): void;
  close(): Promise<void>;
}

export type Handler = (request: IncomingMessage, body: string, response: ServerResponse) => Promise<void>;

export async function startFaultyServer(handle: Handler) {
  const requests: ForgeDouble["requests"] = [];
  const faults: { fault: Fault; left: number }[] = [];
  const server = createServer((request, response) => {
    void serve(request, response).catch((error: unknown) => {
      response.writeHead(500).end(String(error));
    });
  });

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "", url: path = "", headers } = request;
    let body = "";
    for await (const chunk of request) body += String(chunk);
    requests.push({ method, path, headers });
    const hit = faults.find(
      ({ fault, left }) => left > 0 && fault.method === method && (fault.path?.test(path) ?? true),
    );
    if (hit === undefined) return await handle(request, body, response);
    hit.left -= 1;
    const { fault } = hit;
    if (fault.how === "hang") return;
    if (fault.how === "lost") {
      response.end = () => response.destroy() as never;
      response.write = () => true;
      return await handle(request, body, response);
    }
    const text = typeof fault.body === "string" ? fault.body : JSON.stringify(fault.body ?? { message: "Refused." });
    response.writeHead(fault.status ?? 500, { "content-type": "application/json", ...fault.headers }).end(text);
  }

  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    fail: (fault: Fault): void => void faults.push({ fault, left: fault.times ?? 1 }),
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A request for a pull request of the double's repository; tests override what they are about. */
export function pullRequestOf(double: ForgeDouble, changes: Partial<PullRequestRequest> = {}): PullRequestRequest {
  return {
    repo: double.repo,
    auth: { username: "x-access-token", token: double.token },
    head: "slipway/one",
    headSha: "1".repeat(40),
    base: "main",
    title: "Add a login form",
    body: "It has one.\n\nSlipway task `task_one`",
    draft: false,
    marker: "task_one",
    ...changes,
  };
}

/** The adapter of the only address. */
export function openOne(options: ForgesOptions): ReturnType<ForgeDouble["open"]> {
  const { forges, close } = openForges(options);
  const [forge] = forges;
  if (forge === undefined) throw new Error("no forge");
  return { forge, close };
}
