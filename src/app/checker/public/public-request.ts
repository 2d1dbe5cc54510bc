/** Requests of `slipway doctor --public`: as a browser far away would send them. */
import { request as httpRequest, type IncomingHttpHeaders, type RequestOptions } from "node:http";
import { request as httpsRequest } from "node:https";
import type { TLSSocket } from "node:tls";

export interface PublicAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** Days until the certificate expires; null without https. */
  readonly certificateDays: number | null;
}

export interface PublicRequest {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: object;
}

const ANSWER_MS = 10_000;
const MOST_BYTES = 2 ** 20;
const DAY_MS = 24 * 3_600_000;

/**
 * Follows no redirect. An upgraded connection is closed and answers with 101.
 * @param ca trusted besides those of the system.
 */
export function ask(url: string, { method = "GET", headers, body }: PublicRequest, ca?: string): Promise<PublicAnswer> {
  const isSecure = url.startsWith("https:");
  const text = body === undefined ? undefined : JSON.stringify(body);
  const options: RequestOptions & { ca?: string } = {
    method,
    timeout: ANSWER_MS,
    headers: {
      "user-agent": "slipway-doctor",
      ...(text === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(text) }),
      ...headers,
    },
    ...(ca === undefined ? {} : { ca }),
  };
  return new Promise((resolve, reject) => {
    const sent = (isSecure ? httpsRequest : httpRequest)(url, options);
    const finish = (status: number, received: IncomingHttpHeaders, content: string, days: number | null): void =>
      resolve({ status, headers: received, text: content, certificateDays: days });
    sent.once("timeout", () => sent.destroy(new Error(`no answer within ${ANSWER_MS / 1_000} s`)));
    sent.once("error", reject);
    sent.once("upgrade", (response, socket) => {
      socket.destroy();
      finish(response.statusCode ?? 0, response.headers, "", null);
    });
    sent.once("response", (response) => {
      const days = isSecure ? daysLeft(response.socket as TLSSocket) : null;
      let content = "";
      response.setEncoding("utf8").on("data", (piece: string) => {
        content += piece;
        if (content.length > MOST_BYTES) response.destroy();
      });
      response.once("close", () => finish(response.statusCode ?? 0, response.headers, content, days));
      response.once("error", reject);
    });
    sent.end(text);
  });
}

function daysLeft(socket: TLSSocket): number | null {
  const { valid_to: until } = socket.getPeerCertificate();
  const at = Date.parse(until);
  return Number.isNaN(at) ? null : Math.floor((at - Date.now()) / DAY_MS);
}
