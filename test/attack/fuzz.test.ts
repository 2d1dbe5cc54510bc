/**
 * Inputs of any shape for a real server: each call with bodies and queries from its own schema,
 * with some values replaced by unexpected ones; raw bytes in place of HTTP; frames of the live
 * stream. `SLIPWAY_FUZZ_INPUTS=100000` for a long run, which also bounds the memory.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { WebSocket } from "ws";
import { z } from "zod";
import { PROTOCOL } from "../../src/core/protocol/stream-constants.ts";
import { clientFrameSchema } from "../../src/core/protocol/stream.ts";
import { isUnsafe, type Route } from "../../src/http/route.ts";
import { ROUTES } from "../../src/http/routes/index.ts";
import { residentMb } from "../support/docker/attacker.ts";
import { startServer, type RealServer } from "../support/process/server.ts";
import { SEED, sized } from "../support/random.ts";

const INPUTS = Number(process.env["SLIPWAY_FUZZ_INPUTS"] ?? sized(1_000, 10_000));
/** Inputs that are made and sent at once; sixteen of them at a time. */
const BATCH = 500;
const AT_ONCE = 16;
/** A run of this many is judged by its memory too. */
const LONG = 50_000;
const GROWTH_MB = 100;
const PASSWORD = "seven green lanterns";
/** In what the victim has; no attacker may ever see it. */
const CANARY = "canary-7f3b19";
const PEOPLE = 4;
/** They end the session that the run goes on with, or the person. */
const LEFT_OUT = new Set([
  "deleteMe",
  "logout",
  "logOutBrowser",
  "endSession",
  "endSessions",
  "changePassword",
  "revokeToken",
]);

type Schema = Readonly<Record<string, unknown>>;
type Input =
  | { readonly kind: "call"; readonly row: Route; readonly path: string; readonly as: string; readonly body: unknown }
  | { readonly kind: "bytes"; readonly text: string }
  | { readonly kind: "frame"; readonly text: string };

/** Unexpected values. */
const strange = fc.oneof(
  fc.constantFrom<unknown>(null, "", [], {}, 0, -1, 1e308, "__proto__", "constructor", "\0", "../../etc/passwd", "%00"),
  fc.constantFrom<unknown>("x".repeat(70_000), "\ud800", "’; DROP TABLE tasks; --", { toString: 1 }, [[[[[[]]]]]]),
  fc.jsonValue({ maxDepth: 3 }),
  fc.string({ unit: "binary", maxLength: 40 }),
);

/** Values of a JSON schema, of which one in eight is strange. */
function valuesOf(schema: Schema, depth = 0): fc.Arbitrary<unknown> {
  return fc.oneof({ arbitrary: regular(schema, depth), weight: 7 }, { arbitrary: strange, weight: 1 });
}

function regular(schema: Schema, depth: number): fc.Arbitrary<unknown> {
  if (depth > 6) return strange;
  if ("const" in schema) return fc.constant(schema["const"]);
  const { enum: values, anyOf, oneOf, type } = schema as Record<string, Schema[]>;
  const choices = anyOf ?? oneOf;
  if (values !== undefined) return fc.constantFrom<unknown>(...values);
  if (choices !== undefined) return fc.oneof(...choices.map((choice) => valuesOf(choice, depth + 1)));
  switch (type as unknown as string) {
    case "object": {
      const properties = (schema["properties"] ?? {}) as Record<string, Schema>;
      const fields = Object.entries(properties).map(([name, field]) => [name, valuesOf(field, depth + 1)] as const);
      return fc.record(Object.fromEntries(fields), { requiredKeys: (schema["required"] ?? []) as string[] });
    }
    case "array":
      return fc.array(valuesOf((schema["items"] ?? {}) as Schema, depth + 1), { maxLength: 4 });
    case "integer":
    case "number":
      return fc.oneof(fc.integer({ min: -5, max: 5_000 }), fc.double());
    case "boolean":
      return fc.boolean();
    case "string":
      return fc.oneof(fc.constantFrom(...WORDS), fc.string({ maxLength: 30 }));
    default:
      return fc.jsonValue({ maxDepth: 2 });
  }
}

const WORDS = [
  "https://git.example.com/team/app",
  "main",
  "ann@example.com",
  PASSWORD,
  "git.example.com",
  "A_NAME",
  "2026-01-01T00:00:00.000Z",
];

const toJsonSchema = (schema: z.ZodType): Schema => z.toJSONSchema(schema, { io: "input", unrepresentable: "any" });

/** @param ids of things that are there, the victim's among them. */
function inputs(ids: readonly string[], tokens: readonly string[]): fc.Arbitrary<Input> {
  const segment = fc.oneof(
    { arbitrary: fc.constantFrom(...ids), weight: 6 },
    { arbitrary: fc.string({ unit: "binary", minLength: 1, maxLength: 20 }).map(encode), weight: 1 },
    { arbitrary: fc.constantFrom("..%2f..", "%", "a%00b", "x".repeat(9_000)), weight: 1 },
  );
  const calls = ROUTES.filter(({ operation }) => !LEFT_OUT.has(operation)).map((row) => {
    const values = valuesOf(toJsonSchema(row.body));
    const query = valuesOf(toJsonSchema(row.query));
    return fc
      .tuple(fc.array(segment, { minLength: 3, maxLength: 3 }), fc.constantFrom("", "x", ...tokens), values, query)
      .map(([segments, as, body, asked]): Input => {
        const path = row.path.replaceAll(/:\w+/g, () => segments.pop() ?? "x");
        return { kind: "call", row, path: path + toQuery(asked), as, body };
      });
  });
  const request = `POST /v1/tasks HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{"prompt":1}`;
  const bytes = fc
    .tuple(fc.nat(request.length), fc.nat(20), fc.string({ unit: "binary", maxLength: 60 }), fc.boolean())
    .map(([at, cut, text, isAlone]): Input => {
      const kept = isAlone ? "" : request;
      return { kind: "bytes", text: kept.slice(0, at) + text + kept.slice(at + cut) };
    });
  const frame = valuesOf(toJsonSchema(clientFrameSchema)).map((value): Input => ({
    kind: "frame",
    text: JSON.stringify(value) ?? "",
  }));
  return fc.oneof(
    { arbitrary: fc.oneof(...calls), weight: 16 },
    { arbitrary: bytes, weight: 2 },
    { arbitrary: frame, weight: 2 },
  );
}

const encode = (text: string): string => encodeURIComponent(text.replaceAll(/\p{Surrogate}/gu, "?"));

function toQuery(asked: unknown): string {
  if (typeof asked !== "object" || asked === null) return "";
  const fields = Object.entries(asked).map(
    ([name, value]) => `${encode(name)}=${encode(String(JSON.stringify(value)))}`,
  );
  return fields.length === 0 ? "" : `?${fields.join("&")}`;
}

let dir: string;
let server: RealServer;
const found: string[] = [];
const statuses = new Map<number, number>();

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-fuzz-"));
  const env = { SLIPWAY_LOG_LEVEL: "error", SLIPWAY_ADDRESS_CONNECTIONS: "0", SLIPWAY_AGENT: "scripted" };
  server = await startServer({ dataDir: join(dir, "data"), sandbox: "simulated", env });
});
afterAll(async () => {
  await server.kill();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});

function judge(input: Input, status: number, text: string): void {
  statuses.set(status, (statuses.get(status) ?? 0) + 1);
  if (status < 500 && !text.includes(CANARY)) return;
  const { row, ...rest } = input as Partial<Extract<Input, { kind: "call" }>>;
  found.push(`${row?.operation ?? ""} ${status} ${text.slice(0, 200)} ${JSON.stringify(rest).slice(0, 1_000)}`);
}

async function call(input: Extract<Input, { kind: "call" }>): Promise<void> {
  const { row, path, as, body } = input;
  const headers = { ...(as === "" ? {} : { authorization: `Bearer ${as}` }), "content-type": "application/json" };
  const sent = isUnsafe(row) ? { body: JSON.stringify(body) ?? "" } : {};
  const signal = AbortSignal.timeout(60_000);
  const answer = await fetch(server.url + path, { method: row.method.toUpperCase(), headers, signal, ...sent });
  judge(input, answer.status, await answer.text());
}

/** What is no request may also be answered by the end of the connection. */
function sendBytes(input: Extract<Input, { kind: "bytes" }>): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
    let answer = "";
    socket.on("data", (piece) => (answer += piece.toString("latin1")));
    socket.on("error", () => undefined);
    socket.on("close", () => {
      judge(input, Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1] ?? 0), answer);
      resolve();
    });
    socket.end(Buffer.from(input.text, "latin1"));
  });
}

/** A socket takes frames until the server has enough of it. */
async function sendFrames(frames: readonly Extract<Input, { kind: "frame" }>[], token: string): Promise<void> {
  const url = `${server.url.replace("http", "ws")}/v1/stream`;
  for (let at = 0; at < frames.length;) {
    const socket = new WebSocket(url, PROTOCOL, { headers: { authorization: `Bearer ${token}` } });
    const answers: string[] = [];
    socket.on("message", (data) => answers.push(String(data as Buffer)));
    socket.on("error", () => undefined);
    const closed = new Promise((resolve) => socket.once("close", resolve));
    await new Promise((resolve) => socket.once("open", resolve).once("close", resolve));
    do {
      const frame = frames[at++];
      if (frame !== undefined && socket.readyState === WebSocket.OPEN) socket.send(frame.text);
      await new Promise((resolve) => setImmediate(resolve));
    } while (at < frames.length && at % 10 !== 0 && socket.readyState === WebSocket.OPEN);
    socket.close();
    const timer = setTimeout(() => socket.terminate(), 5_000);
    await closed;
    clearTimeout(timer);
    const [first] = frames;
    if (first !== undefined) judge(first, 101, answers.join("\n"));
  }
}

async function send(batch: readonly Input[], token: string): Promise<void> {
  const waiting = batch.filter((input) => input.kind !== "frame").values();
  const frames = batch.filter((input) => input.kind === "frame");
  const worker = async (): Promise<void> => {
    for (const input of waiting) await (input.kind === "call" ? call(input) : sendBytes(input as never));
  };
  await Promise.all([sendFrames(frames, token), ...Array.from({ length: AT_ONCE }, worker)]);
}

/** A person with a task. */
async function person(email: string, prompt: string): Promise<{ token: string; tokens: string[]; ids: string[] }> {
  const made = await server.call("POST", "/v1/users", { email, password: PASSWORD, role: "user" });
  const login = await server.call("POST", "/v1/auth/login", { email, password: PASSWORD }, { authorization: "" });
  const { accessToken } = login.body as { accessToken: string };
  const authorization = `Bearer ${accessToken}`;
  // Unlike an access token it lasts for a long run.
  const minted = await server.call("POST", "/v1/tokens", { name: prompt }, { authorization });
  const { id, token } = minted.body as { id: string; token: string };
  const repo = "https://git.example.com/team/app";
  const task = await server.call("POST", "/v1/tasks", { repo, prompt, title: prompt }, { authorization });
  return {
    token,
    tokens: [accessToken, token],
    ids: [id, (made.body as { id: string }).id, (task.body as { id: string }).id],
  };
}

it(
  `[S6] ${INPUTS} inputs: no failure of the server, nothing of anybody else, and its memory stays`,
  { timeout: 300_000 + INPUTS * 60 },
  async () => {
    const victim = await person(`${CANARY}@example.com`, `a secret: ${CANARY}`);
    const attackers = [];
    for (let n = 0; n < PEOPLE; n += 1) attackers.push(await person(`eve${n}@example.com`, `plain ${n}`));
    const ids = [...victim.ids, ...attackers.flatMap((one) => one.ids)];
    const arbitrary = inputs(
      ids,
      attackers.flatMap((one) => one.tokens),
    );
    let before = 0;
    for (let sent = 0, n = 0; sent < INPUTS; sent += BATCH, n += 1) {
      const numRuns = Math.min(BATCH, INPUTS - sent);
      await send(fc.sample(arbitrary, { numRuns, seed: SEED + n }), attackers[n % PEOPLE]?.token ?? "");
      // What grows until here is warm-up.
      if (sent < INPUTS / 5) before = residentMb(server.pid);
      expect(found, `seed ${SEED}`).toEqual([]);
    }
    expect((await server.call("GET", "/healthz")).status).toBe(200);
    const after = residentMb(server.pid);
    const told = [...statuses].toSorted(([a], [b]) => a - b).map(([status, count]) => `${status}: ${count}`);
    if (INPUTS >= LONG)
      process.stdout.write(`fuzz: ${told.join(", ")}; ${Math.round(before)} -> ${Math.round(after)} MB\n`);
    expect(statuses.get(200) ?? 0).toBeGreaterThan(INPUTS / 100);
    if (INPUTS >= LONG) expect(after - before).toBeLessThan(GROWTH_MB);
  },
);
