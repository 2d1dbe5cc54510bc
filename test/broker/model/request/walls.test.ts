/**
 * What passes the gateway, and what is refused: requests of the official SDK and of Claude Code
 * (recorded, with their texts shortened) against a provider that records what arrives.
 */
import Anthropic from "@anthropic-ai/sdk";
import { readFileSync } from "node:fs";
import { createServer, request as httpRequest, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { createModelGateway } from "../../../../src/broker/model/gateway.ts";
import { PRICES } from "../../../../src/broker/model/price-table.ts";
import { createProviderRateLimit } from "../../../../src/broker/model/rate-limit.ts";
import { DEFAULT_RULES } from "../../../../src/broker/model/request/policy.ts";
import { systemClock } from "../../../../src/core/lib/runtime/system-clock.ts";
import { quiet } from "../../../support/coordinator/harness.ts";

interface Arrival {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: unknown;
}

interface Recorded {
  readonly name: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Readonly<Record<string, unknown>>;
}
const RECORDED = JSON.parse(readFileSync(new URL("claude-code.json", import.meta.url), "utf8")) as readonly Recorded[];

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const ANSWER = JSON.stringify({
  id: "msg_1",
  type: "message",
  role: "assistant",
  model: "claude-opus-5-5",
  content: [{ type: "text", text: "Hello." }],
  stop_reason: "end_turn",
  usage: { input_tokens: 1, output_tokens: 1 },
});

/** A provider, the gateway before it, and what arrived at the provider. */
async function open(): Promise<{ direct: string; gateway: string; arrivals: Arrival[] }> {
  const arrivals: Arrival[] = [];
  const direct = await listen(
    createServer((request, response) => {
      const chunks: Buffer[] = [];
      request
        .on("data", (chunk: Buffer) => chunks.push(chunk))
        .on("end", () => {
          const text = Buffer.concat(chunks).toString();
          const { method = "", url: path = "", headers } = request;
          arrivals.push({ method, path, headers, body: text === "" ? null : (JSON.parse(text) as unknown) });
          response.writeHead(200, { "content-type": "application/json" }).end(ANSWER);
        });
    }),
  );
  const serve = createModelGateway({
    baseUrl: direct,
    apiKey: "sk-real",
    budget: {
      admit: async () => ({ update: () => null, settle: async () => undefined, cancel: async () => undefined }),
      admitFree: async () => undefined,
    },
    rules: DEFAULT_RULES,
    prices: PRICES,
    rate: createProviderRateLimit({ clock: systemClock, longestMs: 1_000 }),
    log: quiet,
  });
  const gateway = await listen(
    createServer((request, response) => {
      const signal = new AbortController().signal;
      void serve({ taskId: "task_1", attempt: 1, request, response, path: request.url ?? "", signal });
    }),
  );
  return { direct, gateway, arrivals };
}

/** Without normalising the path, as fetch would. */
function post(
  base: string,
  path: string,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
  method = "POST",
): Promise<{ status: number; text: string }> {
  const { hostname, port } = new URL(base);
  return new Promise((resolve, reject) => {
    const request = httpRequest({ hostname, port, path, method, headers }, (response) => {
      let text = "";
      response
        .setEncoding("utf8")
        .on("data", (piece: string) => (text += piece))
        .on("end", () => resolve({ status: response.statusCode ?? 0, text }));
    });
    request.on("error", reject).end(body === null ? undefined : JSON.stringify(body));
  });
}

/** Headers that belong to the connection, to the library that fetches, or to the key. */
const OWN = new Set(
  "accept-language sec-fetch-mode content-type host connection content-length x-api-key authorization accept-encoding transfer-encoding".split(
    " ",
  ),
);
const withoutOwn = ({ method, path, headers, body }: Arrival): unknown => ({
  method,
  path,
  body,
  headers: Object.fromEntries(Object.entries(headers).filter(([name]) => !OWN.has(name))),
});

const HI: Anthropic.MessageParam[] = [{ role: "user", content: "Hi." }];
const BASE = { model: "claude-opus-5-5", max_tokens: 100, messages: HI };
const withContent = (content: unknown): object => ({ ...BASE, messages: [{ role: "user", content }] });
const withTool = (tool: object): object => ({
  ...BASE,
  tools: [{ name: "look", input_schema: { type: "object" }, ...tool }],
});

describe("[L5] what the gateway permits passes unchanged but for the key", () => {
  it.each(RECORDED.map((recorded) => [recorded.name, recorded] as const))(
    "%s",
    async (_name, { path, headers, body }) => {
      const { gateway, arrivals } = await open();
      const { status, text } = await post(gateway, path, body, { ...headers, "x-api-key": "att_token" });
      expect([status, text]).toEqual([200, ANSWER]);
      expect(arrivals).toHaveLength(1);
      expect(arrivals[0]?.body).toEqual(body);
      expect(arrivals[0]?.path).toBe(path);
      expect(arrivals[0]?.headers).toMatchObject({ ...headers, authorization: "Bearer sk-real" });
      expect(JSON.stringify(arrivals)).not.toContain("att_token");
    },
  );

  const calls: readonly [string, (client: Anthropic) => Promise<unknown>][] = [
    ["a plain message", (client) => client.messages.create(BASE)],
    [
      "caches, thinking, effort, a schema, tools of the sandbox, an image and a document",
      (client) =>
        client.messages.create({
          ...BASE,
          system: [{ type: "text", text: "Be brief.", cache_control: { type: "ephemeral", ttl: "1h" } }],
          thinking: { type: "adaptive" },
          output_config: { effort: "high", format: { type: "json_schema", schema: { type: "object", content: {} } } },
          tools: [
            { type: "bash_20250124", name: "bash" },
            { type: "text_editor_20250728", name: "str_replace_based_edit_tool", max_characters: 100 },
            {
              name: "look",
              input_schema: { type: "object", properties: { source: { type: "string" } } },
              strict: true,
            },
          ],
          tool_choice: { type: "auto", disable_parallel_tool_use: true },
          metadata: { user_id: "u" },
          messages: [
            {
              role: "user",
              content: [
                { type: "image", source: { type: "base64", media_type: "image/png", data: "AAAA" } },
                { type: "document", source: { type: "text", media_type: "text/plain", data: "Text." }, title: "T" },
                {
                  type: "document",
                  source: { type: "content", content: [{ type: "text", text: "Nested." }] },
                  citations: { enabled: true },
                },
              ],
            },
            {
              role: "assistant",
              content: [
                { type: "thinking", thinking: "", signature: "s" },
                {
                  type: "tool_use",
                  id: "t",
                  name: "look",
                  input: { type: "image", source: { type: "url", url: "u" } },
                },
              ],
            },
            {
              role: "user",
              content: [
                {
                  type: "tool_result",
                  tool_use_id: "t",
                  is_error: false,
                  content: [{ type: "text", text: "Seen.", cache_control: { type: "ephemeral" } }],
                },
              ],
            },
          ],
        }),
    ],
    [
      "the beta API with a task budget, a summary and a change of tools",
      (client) =>
        client.beta.messages.create({
          ...BASE,
          betas: ["compact-2026-09-04", "task-budgets-2026-03-13", "mid-conversation-tool-changes-2026-07-01"],
          compaction: { type: "summarize", instructions: "Short." },
          output_config: { task_budget: { type: "tokens", total: 50_000 } },
          messages: [
            { role: "user", content: "Hi." },
            { role: "system", content: [{ type: "tool_addition", tool: { type: "tool_reference", name: "look" } }] },
          ],
        }),
    ],
    ["a count of tokens", (client) => client.beta.messages.countTokens({ model: BASE.model, messages: HI })],
    ["a page of models", (client) => client.models.list({ limit: 5 })],
    ["one model", (client) => client.models.retrieve("claude-opus-5-5")],
  ];
  it.each(calls)("the official SDK: %s", async (_name, call) => {
    const { direct, gateway, arrivals } = await open();
    await call(new Anthropic({ apiKey: "sk-real", baseURL: direct, maxRetries: 0 }));
    await call(new Anthropic({ apiKey: "att_token", baseURL: gateway, maxRetries: 0 }));
    expect(arrivals).toHaveLength(2);
    const [expected, passed] = arrivals.map(withoutOwn);
    expect(passed).toEqual(expected);
    expect(arrivals[1]?.headers.authorization).toBe("Bearer sk-real");
  });
});

const URL_IMAGE = { type: "image", source: { type: "url", url: "https://evil.example/?q=secret" } };
const FILE = { type: "document", source: { type: "file", file_id: "f" } };

describe("[L4] what is not on the list is refused by its name, at any depth", () => {
  const bodies: readonly [string, object, string][] = [
    ["an image by address", withContent([URL_IMAGE]), "messages[0].content[0].source"],
    [
      "inside of a document's content",
      withContent([{ type: "document", source: { type: "content", content: [URL_IMAGE] } }]),
      "messages[0].content[0].source.content[0].source",
    ],
    [
      "inside of a tool's result",
      withContent([{ type: "tool_result", tool_use_id: "t", content: [FILE] }]),
      "messages[0].content[0].content[0].source",
    ],
    [
      "inside of a document inside of a tool's result",
      withContent([
        {
          type: "tool_result",
          tool_use_id: "t",
          content: [{ type: "document", source: { type: "content", content: [URL_IMAGE] } }],
        },
      ]),
      "messages[0].content[0].content[0].source.content[0].source",
    ],
    [
      "inside of a search result",
      withContent([{ type: "search_result", source: "s", title: "t", content: [URL_IMAGE] }]),
      "messages[0].content[0].content[0].source",
    ],
    ["in the system prompt", { ...BASE, system: [URL_IMAGE] }, "system[0]"],
    [
      "a block of the provider's tools",
      withContent([{ type: "server_tool_use", id: "s", name: "n" }]),
      "server_tool_use",
    ],
    ["an upload", withContent([{ type: "container_upload", file_id: "f" }]), "container_upload"],
    ["a block without a type", withContent([{ source: { type: "url" } }]), "undefined"],
    ["a type that is inherited", withContent([{ type: "constructor" }]), "constructor"],
    ["an unknown field of a block", withContent([{ type: "text", text: "t", image: URL_IMAGE }]), "content[0].image"],
    ["a source in a setting", { ...BASE, metadata: { user_id: "u", source: { type: "url" } } }, "metadata.source"],
    ["a server tool", withTool({ type: "web_fetch_20260318" }), "web_fetch_20260318"],
    ["a toolset", withTool({ type: "mcp_toolset" }), "mcp_toolset"],
    [
      "a tool that programs at the provider call",
      withTool({ allowed_callers: ["code_execution_20260521"] }),
      "allowed_callers",
    ],
    [
      "a server tool that is added later",
      {
        ...BASE,
        messages: [
          ...HI,
          {
            role: "system",
            content: [
              {
                type: "tool_addition",
                tool: { type: "tool_definition", definition: { type: "web_search_20260318", name: "w" } },
              },
            ],
          },
        ],
      },
      "web_search_20260318",
    ],
    ["servers of tools", { ...BASE, mcp_servers: [] }, "mcp_servers"],
    ["a container", { ...BASE, container: "c" }, "container"],
    ["another model behind this one", { ...BASE, fallbacks: [] }, "fallbacks"],
    ["somebody else's bill", { ...BASE, billing_policy: {} }, "billing_policy"],
    ["a region at another price", { ...BASE, inference_geo: "us" }, "inference_geo"],
    ["a field that is inherited", { ...BASE, toString: {} }, "toString"],
    ["more output than permitted", { ...BASE, max_tokens: 128_001 }, "max_tokens"],
    ["another model", { ...BASE, model: "gpt-5" }, "gpt-5"],
    ["[G1] a model without a price", { ...BASE, model: "claude-opus-5-9" }, "claude-opus-5-9"],
    ["[G1] a speed without a price", { ...BASE, model: "claude-haiku-4-5", speed: "fast" }, "speed"],
    ["[G1] another speed", { ...BASE, speed: "faster" }, "speed"],
    ["[G1] another tier", { ...BASE, service_tier: "priority" }, "service_tier"],
  ];
  it.each(bodies)("%s", async (_name, body, named) => {
    const { gateway, arrivals } = await open();
    const { status, text } = await post(gateway, "/v1/messages", body);
    expect([status, (JSON.parse(text) as { error: { type: string } }).error.type]).toEqual([
      400,
      "invalid_request_error",
    ]);
    expect(text).toContain(named);
    expect(arrivals).toEqual([]);
  });

  it.each([
    ["a beta that stores", { "anthropic-beta": "compact-2026-09-04,files-api-2025-04-14" }, "files-api-2025-04-14"],
    ["somebody else's account", { "anthropic-workspace-id": "w" }, "anthropic-workspace-id"],
    ["somebody else's profile", { "anthropic-user-profile-id": "p" }, "anthropic-user-profile-id"],
  ])("%s: by the name of the header", async (_name, headers, named) => {
    const { gateway, arrivals } = await open();
    for (const path of ["/v1/messages", "/v1/messages/count_tokens"]) {
      const { status, text } = await post(gateway, path, BASE, headers as Record<string, string>);
      expect(status).toBe(400);
      expect(text).toContain(named);
    }
    expect(arrivals).toEqual([]);
  });

  it.each([
    "/v1/models/..",
    "/v1/models/.",
    "/v1/models/../files",
    "/v1/models/x/y",
    "/v1/models/%2e%2e",
    "/v1/models/",
  ])("the path %s is not one of models", async (path) => {
    const { gateway, arrivals } = await open();
    expect((await post(gateway, path, null, {}, "GET")).status).toBe(404);
    expect(arrivals).toEqual([]);
  });

  it("a parameter of the query is refused by its name", async () => {
    const { gateway, arrivals } = await open();
    const { status, text } = await post(gateway, "/v1/messages?beta=true&workspace=w", BASE);
    expect([status, text]).toEqual([400, expect.stringContaining("workspace")]);
    expect(arrivals).toEqual([]);
  });
});
