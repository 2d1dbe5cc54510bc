/** Strangers: no account, an address each, and whatever a server answers without a log-in. */
import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { callJson, callRaw, openSilent } from "./http.ts";

export interface Crowd {
  readonly url: string;
  /** E-mail addresses of people, which strangers know. */
  readonly emails: readonly string[];
  readonly random: () => number;
  readonly isOver: () => boolean;
}

export type Statuses = Map<number, number>;

const HELD = 8;
const PATHS = [
  "/",
  "/v1/tasks",
  "/v1/../../etc/passwd",
  "/%2e%2e/%2e%2e/etc/passwd",
  "/v1/stream",
  "/metrics",
  "/healthz",
];

/** Goes on until `isOver`. @param statuses counts the answers. */
export async function pester({ url, emails, random, isOver }: Crowd, n: number, statuses: Statuses): Promise<void> {
  const from = `127.1.${Math.floor(n / 200)}.${(n % 200) + 1}`;
  const held: Socket[] = [];
  const pick = <T>(items: readonly T[]): T | undefined => items[Math.floor(random() * items.length)];
  const count = (status: number): void => void statuses.set(status, (statuses.get(status) ?? 0) + 1);
  const tries: readonly (() => Promise<unknown>)[] = [
    // Guesses of a person's password, of tokens and of links.
    async () => {
      const body = { email: pick(emails), password: `guess ${Math.floor(random() * 1e9)}` };
      count((await callJson({ method: "POST", url: `${url}/v1/auth/login`, from }, body)).status);
    },
    async () => {
      const headers = { authorization: `Bearer ${Math.floor(random() * 1e15)}` };
      count((await callRaw({ method: "GET", url: `${url}/v1/tasks?q=%25_%25_%25`, from, headers })).status);
    },
    async () => {
      const body = { token: "x".repeat(40), email: "a@example.org", password: "a long enough password" };
      count((await callJson({ method: "POST", url: `${url}/v1/links/accept`, from }, body)).status);
    },
    async () => count((await callJson({ method: "POST", url: `${url}/v1/device/start`, from }, {})).status),
    // Anything else.
    async () => count((await callRaw({ method: "GET", url: url + (pick(PATHS) ?? "/"), from })).status),
    async () => {
      const body = `{"email":${"[".repeat(100_000)}`;
      const headers = { "content-type": "application/json" };
      count((await callRaw({ method: "POST", url: `${url}/v1/auth/login`, from, headers, body })).status);
    },
    // Connections that stay: half a header, a body that stays away, an upgrade without a word.
    async () => hold("GET /v1/tasks HTTP/1.1\r\nhost: a\r\nx-slow: "),
    async () => hold("POST /v1/auth/login HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n{"),
    async () =>
      hold(
        "GET /v1/stream HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-protocol: slipway.v1\r\n\r\n",
      ),
  ];

  function hold(sent: string): void {
    held.push(openSilent(url, from, sent));
    if (held.length > HELD) held.shift()?.destroy();
  }

  while (!isOver()) {
    await pick(tries)?.();
    await delay(200 + random() * 800);
  }
  for (const socket of held) socket.destroy();
}
