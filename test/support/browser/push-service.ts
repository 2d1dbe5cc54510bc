/**
 * A push service and the browsers behind it: takes messages over HTTP, verifies the VAPID token
 * (RFC 8292) and decrypts the message as a browser does (RFC 8188, RFC 8291), without the library
 * that the server uses.
 */
import { createDecipheriv, createECDH, createPublicKey, hkdfSync, randomBytes, verify, type ECDH } from "node:crypto";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";

export interface PushMessage {
  readonly browser: string;
  readonly headers: IncomingHttpHeaders;
  /** The contact of the sender's token. */
  readonly contact: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

export interface PushService {
  readonly host: string;
  readonly messages: PushMessage[];
  /** Requests that were not a valid push message. */
  readonly invalid: string[];
  /** A subscription as a browser makes it. */
  subscribe(browser: string): { endpoint: string; keys: { p256dh: string; auth: string } };
  /** Answers for this browser, in turn; 201 after them. */
  answer(browser: string, ...statuses: number[]): void;
  close(): Promise<void>;
}

interface Browser {
  readonly ecdh: ECDH;
  readonly auth: Buffer;
  readonly statuses: number[];
}

/** @param publicKey of the sender; null = any, as browsers learn it from the subscription. */
export async function startPushService(publicKey: () => string | null = () => null): Promise<PushService> {
  const browsers = new Map<string, Browser>();
  const messages: PushMessage[] = [];
  const invalid: string[] = [];
  let host = "";

  function take(name: string, headers: IncomingHttpHeaders, body: Buffer): number {
    const browser = browsers.get(name);
    if (browser === undefined) return 404;
    const status = browser.statuses.shift() ?? 201;
    if (status >= 300) return status;
    const contact = checkToken(headers.authorization ?? "", `http://${host}`, publicKey());
    if (headers["content-encoding"] !== "aes128gcm") throw new Error("not aes128gcm");
    if (!(Number(headers["ttl"]) > 0)) throw new Error("no TTL");
    if (body.length > 4_096) throw new Error(`${body.length} bytes`);
    const payload = JSON.parse(decrypt(body, browser).toString()) as Record<string, unknown>;
    messages.push({ browser: name, headers, contact, payload });
    return status;
  }

  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const name = (request.url ?? "").slice(1);
      let status = 400;
      try {
        status = take(name, request.headers, Buffer.concat(chunks));
      } catch (error) {
        invalid.push(String(error));
      }
      response.writeHead(status, status === 302 ? { location: `http://${host}/elsewhere` } : {}).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    host,
    messages,
    invalid,
    subscribe(name) {
      const ecdh = createECDH("prime256v1");
      const p256dh = ecdh.generateKeys("base64url");
      const auth = randomBytes(16);
      browsers.set(name, { ecdh, auth, statuses: [] });
      return { endpoint: `http://${host}/${name}`, keys: { p256dh, auth: auth.toString("base64url") } };
    },
    answer: (name, ...statuses) => void browsers.get(name)?.statuses.push(...statuses),
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}

const json = (part: string | undefined): Record<string, unknown> =>
  JSON.parse(Buffer.from(part ?? "", "base64url").toString()) as Record<string, unknown>;

/** @returns the sender's contact. */
function checkToken(authorization: string, origin: string, expected: string | null): string {
  const [, token = "", key = ""] = /^vapid t=([\w.-]+), ?k=([\w-]+)$/.exec(authorization) ?? [];
  if (expected !== null && key !== expected) throw new Error("another key signed this");
  const point = Buffer.from(key, "base64url");
  const [x, y] = [point.subarray(1, 33), point.subarray(33)].map((part) => part.toString("base64url"));
  const signer = createPublicKey({ key: { kty: "EC", crv: "P-256", x: x ?? "", y: y ?? "" }, format: "jwk" });
  const [head, claims, signature = ""] = token.split(".");
  const isSigned = verify(
    "sha256",
    Buffer.from(`${head}.${claims}`),
    { key: signer, dsaEncoding: "ieee-p1363" },
    Buffer.from(signature, "base64url"),
  );
  if (!isSigned || json(head)["alg"] !== "ES256") throw new Error("the signature is wrong");
  const { aud, exp, sub } = json(claims);
  const seconds = Number(exp) - Date.now() / 1_000;
  if (aud !== origin || !(seconds > 0) || seconds > 24 * 3_600) throw new Error(`the claims are wrong: ${claims}`);
  if (typeof sub !== "string" || !/^(?:https:|mailto:)/.test(sub)) throw new Error("no contact");
  return sub;
}

const derive = (secret: Buffer, salt: Buffer, info: Buffer, length: number): Buffer =>
  Buffer.from(hkdfSync("sha256", secret, salt, info, length));

function decrypt(body: Buffer, { ecdh, auth }: Browser): Buffer {
  const salt = body.subarray(0, 16);
  const length = body.readUInt8(20);
  const sender = body.subarray(21, 21 + length);
  const sealed = body.subarray(21 + length);
  const info = Buffer.concat([Buffer.from("WebPush: info\0"), ecdh.getPublicKey(), sender]);
  const secret = derive(ecdh.computeSecret(sender), auth, info, 32);
  const key = derive(secret, salt, Buffer.from("Content-Encoding: aes128gcm\0"), 16);
  const nonce = derive(secret, salt, Buffer.from("Content-Encoding: nonce\0"), 12);
  const opener = createDecipheriv("aes-128-gcm", key, nonce);
  opener.setAuthTag(sealed.subarray(-16));
  const padded = Buffer.concat([opener.update(sealed.subarray(0, -16)), opener.final()]);
  const end = padded.lastIndexOf(2);
  if (end === -1) throw new Error("no end of the last record");
  return padded.subarray(0, end);
}
