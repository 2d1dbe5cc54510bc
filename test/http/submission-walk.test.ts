/** How often the text of a submission is read and written as JSON on its way into the database. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { openApiServer, REPO, type ApiServer } from "./api-server.ts";

const PROMPT = "a prompt whose conversions are counted 7f3a91";
let api: ApiServer;
let token: string;
beforeAll(async () => {
  api = await openApiServer();
  ({ accessToken: token } = await api.person("ada@example.com"));
  // A worker would ask for its specification.
  await api.harness.coordinator.scheduler.setMode("paused");
});
afterAll(() => api.close());

/** The texts with the prompt that this thread parses and makes meanwhile. */
async function countConversions(work: () => Promise<void>): Promise<{ parsed: number; made: number }> {
  const { parse, stringify } = JSON;
  const count = { parsed: 0, made: 0 };
  JSON.parse = ((...given: Parameters<typeof parse>) => {
    if (given[0].includes(PROMPT)) count.parsed += 1;
    return parse(...given) as unknown;
  }) as typeof parse;
  JSON.stringify = ((...given: Parameters<typeof stringify>) => {
    const text = stringify(...given) as string | undefined;
    if (text?.includes(PROMPT) === true) count.made += 1;
    return text;
  }) as typeof stringify;
  try {
    await work();
  } finally {
    Object.assign(JSON, { parse, stringify });
  }
  return count;
}

it.each([
  ["the row and the answer", "", 2],
  ["a digest, with a key", "Idempotency-Key: once\r\n", 3],
])("[R1] a prompt is parsed once, and made JSON for nothing but %s (decision 074)", async (_what, header, made) => {
  const body = `{"repo":"${REPO}","prompt":"${PROMPT}"}`;
  const head = `Host: a\r\nConnection: close\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\n`;
  const request = `POST /v1/tasks HTTP/1.1\r\n${head}${header}Content-Length: ${body.length}\r\n\r\n${body}`;
  let answer = "";
  const count = await countConversions(async () => void (answer = await api.raw(request)));
  expect(answer).toMatch(/^HTTP\/1\.1 201 /);
  expect(answer).toContain(PROMPT);
  expect(count).toEqual({ parsed: 1, made });
});
