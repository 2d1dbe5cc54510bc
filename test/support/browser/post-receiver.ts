/** An HTTP server that keeps what is posted to it: an ntfy server, or the receiver of a webhook. */
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";

interface Posted {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

interface Reply {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface PostReceiver {
  readonly host: string;
  readonly url: string;
  readonly requests: Posted[];
  /** The next answers, in turn; 200 after them. */
  answer(...replies: Reply[]): void;
  close(): Promise<void>;
}

export async function startPostReceiver(): Promise<PostReceiver> {
  const requests: Posted[] = [];
  const replies: Reply[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const { url = "", headers } = request;
      requests.push({ path: url, headers, body: Buffer.concat(chunks).toString() });
      const reply = replies.shift() ?? { status: 200 };
      response.writeHead(reply.status, reply.headers).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    host,
    url: `http://${host}`,
    requests,
    answer: (...given) => void replies.push(...given),
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}
