/**
 * One model provider with two faces: the fake model, which bills what it answered, for everybody;
 * for prompts with the mark one that answers without end, without sense or not at all.
 */
import { createServer, request as sendRequest, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { startFakeModel } from "../../../src/broker/model/fake/server.ts";
import type { Turn } from "../../../src/broker/model/fake/scenario.ts";

export const HOSTILE_MARK = "siege-hostile-provider";

const TURNS: Turn[] = [
  { say: "I look around.", tools: [{ name: "bash", input: { command: "ls" } }] },
  { tools: [{ name: "bash", input: { command: "date +%N > work.txt" } }] },
  { tools: [{ name: "finish", input: { title: "Write the time", summary: "It is written." } }] },
];

export interface Provider {
  readonly url: string;
  /** US dollars that the honest face billed. */
  billedUsd(): number;
  hostileAnswers(): number;
  close(): Promise<void>;
}

export async function startProvider(apiKey: string): Promise<Provider> {
  const fake = await startFakeModel({ scenarios: { default: { turns: TURNS, afterwards: "again" } }, apiKey });
  let hostile = 0;
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("error", () => undefined);
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      const body = Buffer.concat(parts);
      if (!body.includes(HOSTILE_MARK)) return forward(fake.url, request, body, response);
      answerBadly(hostile++, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    billedUsd: () => fake.spentUsd(),
    hostileAnswers: () => hostile,
    async close() {
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
      await fake.close();
    },
  };
}

function forward(to: string, request: IncomingMessage, body: Buffer, response: ServerResponse): void {
  const { method, headers, url = "/" } = request;
  const onward = sendRequest(new URL(url, to), { method, headers }, (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(response);
  });
  onward.on("error", () => response.destroy());
  response.on("close", () => onward.destroy());
  onward.end(body);
}

const event = (type: string, data: object): string => `event: ${type}\ndata: ${JSON.stringify({ type, ...data })}\n\n`;
const START = event("message_start", {
  message: {
    id: "msg_1",
    type: "message",
    role: "assistant",
    model: "claude-sonnet-4-5",
    content: [],
    stop_reason: null,
    stop_sequence: null,
    usage: { input_tokens: 1e15, output_tokens: 1e15 },
  },
});

const BAD_ANSWERS: readonly ((response: ServerResponse) => void)[] = [
  // Pings without end.
  (response) => drip(response, START, event("ping", {})),
  // Text without end, as fast as it is read.
  (response) => drip(response, START, event("content_block_delta", { index: 0, delta: { text: "x".repeat(60_000) } })),
  (response) => void response.writeHead(200, { "content-type": "application/json" }).end("{".repeat(2_000_000)),
  (response) => void response.writeHead(429, { "retry-after": "999999999" }).end("{}"),
  (response) => void response.writeHead(500).end(),
  (response) => response.destroy(),
  (response) => void response.writeHead(302, { location: "http://169.254.169.254/" }).end(),
];

function answerBadly(n: number, response: ServerResponse): void {
  response.on("error", () => undefined);
  BAD_ANSWERS[n % BAD_ANSWERS.length]?.(response);
}

/** Until the other side ends it. */
function drip(response: ServerResponse, first: string, then: string): void {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.write(first);
  const timer = setInterval(() => {
    if (response.destroyed) clearInterval(timer);
    else if (!response.writableNeedDrain) response.write(then);
  }, 50);
  response.on("close", () => clearInterval(timer));
}
