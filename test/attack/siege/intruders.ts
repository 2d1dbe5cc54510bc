/**
 * Hostile people: they have an account, and use up what an account may. Their tasks run hostile
 * containers, ask a hostile git host and speak to a hostile provider.
 */
import { setTimeout as delay } from "node:timers/promises";
import { WebSocket } from "ws";
import { PROTOCOL } from "../../../src/core/protocol/stream-constants.ts";
import { HOSTILE_ADDRESSES } from "../../support/hostile/inputs.ts";
import { callJson, callRaw, openSilent, type Answer } from "./http.ts";
import type { Account, Workplace } from "./people.ts";
import { HOSTILE_MARK } from "./provider.ts";

export interface Enemy extends Workplace {
  /** Repositories of hostile hosts. */
  readonly badRepos: readonly string[];
  readonly random: () => number;
  readonly isOver: () => boolean;
}

/** Each ends by its own limit: the task's minutes, disk, processes or events. */
const CONTAINER_ATTACKS: readonly string[] = [
  "node attack/flood.mjs connections",
  "node attack/flood.mjs batches",
  "node attack/flood.mjs events",
  "node attack/bomb.mjs",
  "dd if=/dev/zero of=big bs=1M; cat big >> more",
  "f() { f | f & }; f; sleep 10",
  "node -e 'const kept = []; for (;;) kept.push(Buffer.alloc(2 ** 24, 1))'",
  "for i in 1 2 3 4; do (while :; do :; done) & done; sleep 20",
  "yes | head -c 300000000",
];
const LISTS = [
  "/v1/tasks?limit=100",
  "/v1/tasks?limit=100&q=%25_%25_%25_%25_%25",
  "/v1/tasks/counts",
  "/v1/threads/none/conversation",
  "/v1/usage",
  "/v1/audit",
  "/v1/ops/overview",
];

/** Goes on until `isOver`. @returns answers that no attack may cause: 5xx other than "not now". */
export async function intrude(enemy: Enemy, { email, password }: Account, n: number): Promise<readonly string[]> {
  const { url, repo, gitToken, badRepos, random, isOver } = enemy;
  const from = `127.2.0.${n + 1}`;
  const wrong: string[] = [];
  let headers: Record<string, string> = {};
  const note = (what: string, { status, body }: Answer): void => {
    if (status >= 500 && status !== 503) wrong.push(`${what}: ${status} ${body.slice(0, 300)}`);
  };
  const post = async (path: string, body: unknown): Promise<Answer> => {
    const answer = await callJson({ method: "POST", url: url + path, from, headers }, body);
    note(path, answer);
    return answer;
  };
  const logIn = async (): Promise<void> => {
    const { body } = await post("/v1/auth/login", { email, password });
    headers = { authorization: `Bearer ${(JSON.parse(body) as { accessToken: string }).accessToken}` };
  };
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
  const script = (): object[] => [
    ...Array.from({ length: 3 }, () => ({ bash: pick(CONTAINER_ATTACKS), timeoutMs: 20_000 })),
    { finish: { title: "x", summary: "x" } },
  ];
  const limited = { budget: { minutes: 1, usd: 0.5 }, maxAttempts: 1, limits: { cpus: 0.5 } };
  const tries: readonly (() => Promise<unknown>)[] = [
    () => post("/v1/tasks", { repo, prompt: "Attack.", agent: "scripted", script: script(), ...limited }),
    () => post("/v1/tasks", { repo, prompt: HOSTILE_MARK, ...limited }),
    () => post("/v1/tasks", { repo: pick(badRepos), prompt: "Attack.", agent: "scripted", script: script() }),
    () => post("/v1/repositories/check", { repo: pick([...badRepos, ...HOSTILE_ADDRESSES.map(([, one]) => one)]) }),
    () => post("/v1/tasks", { repo, prompt: "x".repeat(300_000) }),
    async () => {
      const calls = Array.from({ length: 20 }, () => callRaw({ method: "GET", url: url + pick(LISTS), from, headers }));
      for (const answer of await Promise.all(calls)) note("a list", answer);
    },
    async () => {
      const held = `GET ${pick(LISTS)} HTTP/1.1\r\nhost: a\r\nauthorization: ${headers["authorization"]}\r\n\r\n`;
      const sockets = Array.from({ length: 10 }, () => openSilent(url, from, held.repeat(20)));
      await delay(2_000);
      for (const socket of sockets) socket.pause().destroy();
    },
    async () => {
      const sockets = Array.from({ length: 25 }, () => openStream(url, headers["authorization"]?.slice(7) ?? ""));
      await delay(3_000);
      for (const socket of sockets) socket.terminate();
    },
  ];
  await logIn();
  await post("/v1/credentials", { host: new URL(repo).host, kind: "token", token: gitToken });
  while (!isOver()) {
    await pick(tries)();
    if (random() < 0.05) await logIn();
    await delay(100 + random() * 400);
  }
  return wrong;
}

/** Subscribes to everything and reads nothing. */
function openStream(url: string, token: string): WebSocket {
  const socket = new WebSocket(`${url.replace("http", "ws")}/v1/stream`, [PROTOCOL]);
  socket.on("error", () => undefined);
  socket.on("open", () => {
    socket.send(JSON.stringify({ type: "auth", token }));
    for (let n = 0; n < 50; n++) socket.send(JSON.stringify({ type: "subscribe", topic: "tasks", after: null }));
    socket.pause();
  });
  return socket;
}
