/**
 * A git host that announces whatever a test wants: git's protocol version 2 as far as `ls-remote`
 * and the start of a fetch go, without a repository behind it.
 */
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface HostileHost {
  readonly url: string;
  /** `127.0.0.1:port`. */
  readonly host: string;
  close(): Promise<void>;
}

export interface HostileAnswers {
  /** Lines of the answer to `ls-refs`, without their length. */
  readonly refs?: readonly string[];
  /** The object format that is announced; sha1 by default. */
  readonly objects?: "sha1" | "sha256";
  /** Takes over the first answer (`info/refs`). */
  readonly advertise?: (response: ServerResponse) => void;
}

/** One packet line. */
export const packet = (text: string): string => (Buffer.byteLength(text) + 4).toString(16).padStart(4, "0") + text;

const capabilities = ({ objects = "sha1" }: HostileAnswers): string =>
  ["version 2\n", "ls-refs\n", "fetch=shallow\n", `object-format=${objects}\n`].map(packet).join("");

export async function startHostileHost(answers: HostileAnswers): Promise<HostileHost> {
  const server = createServer((request, response) => {
    request.resume();
    if (request.method === "GET") {
      response.writeHead(200, { "content-type": "application/x-git-upload-pack-advertisement" });
      if (answers.advertise !== undefined) return answers.advertise(response);
      return void response.end(`${packet("# service=git-upload-pack\n")}0000${capabilities(answers)}0000`);
    }
    response.writeHead(200, { "content-type": "application/x-git-upload-pack-result" });
    response.end(`${(answers.refs ?? []).map((line) => packet(`${line}\n`)).join("")}0000`);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url: `http://${host}/app`,
    host,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
