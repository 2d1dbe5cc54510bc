/**
 * MCP servers, with a real one: a second process that speaks the protocol through the same SDK, and
 * one behind HTTP and the proxy.
 */
import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { McpServer as SdkServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { afterEach, beforeEach, expect } from "vitest";
import { mcpServersSchema, type McpServers } from "../../../src/core/values/mcp-servers.ts";
import { openMcp, type McpClients } from "../../../worker/mcp/client.ts";
import { createTools, type Toolbox } from "../../../worker/tools/toolbox.ts";
import type { ToolInput, ToolResult } from "../../../worker/tools/tool.ts";
import { inTurn } from "../../support/vitest/full-run.ts";
import { isAnyLeft } from "../../support/process/running.ts";

const it = inTurn(3);

const SERVER = join(import.meta.dirname, "server.mjs");
let dir: string;
let root: string;
let tools: Toolbox;
const open: { close(): unknown }[] = [];
beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), "sw-mcp-")));
  root = join(dir, "work");
  mkdirSync(root);
  tools = createTools(root, join(dir, "jobs"));
});
afterEach(async () => {
  for (const resource of open.splice(0)) await resource.close();
  rmSync(dir, { recursive: true, force: true });
});

const node = (...args: string[]): McpServers[string] => ({ command: process.execPath, args: [SERVER, ...args] });
async function openServers(servers: McpServers, proxy: string | null = null): Promise<McpClients> {
  const mcp = await openMcp(servers, { root, env: { GREETING: "hello" }, proxy }, new AbortController().signal);
  open.push(mcp);
  for (const { schema, call } of mcp.tools) tools.add(schema.name, call);
  return mcp;
}
const run = async (name: string, input: ToolInput = {}, signal = new AbortController().signal): Promise<ToolResult> =>
  await tools.run(name, input, signal);

it("tools are listed by name with their schemas and descriptions, and can be called", async () => {
  const mcp = await openServers({ calc: node() });
  expect(mcp.problems).toEqual([]);
  const toolSchemas = mcp.tools.map(({ schema }) => schema);
  expect(toolSchemas.map(({ name }) => name)).toEqual(
    ["add", "die", "flood", "hang", "long", "picture", "refuse", "where"].map((name) => `mcp__calc__${name}`),
  );
  const add = toolSchemas.find(({ name }) => name === "mcp__calc__add");
  expect(add?.description).toBe('From the MCP server "calc", which describes it as: Adds two numbers');
  expect(add?.inputSchema).toMatchObject({
    type: "object",
    properties: { a: { type: "number" } },
    required: ["a", "b"],
  });
  expect(await run("mcp__calc__add", { a: 2, b: 3 })).toEqual({ output: "5", exitCode: 0, truncated: false });
  expect((await run("mcp__calc__picture")).output).toBe("[image, image/png, not shown]");
});

it("a server runs in the workspace, with the environment of commands", async () => {
  process.env["SLIPWAY_TOKEN"] = "att_secret";
  try {
    await openServers({ a: { ...node() }, b: { ...node(), env: { GREETING: "bye" } } });
    expect((await run("mcp__a__where")).output).toBe(`${root} hello undefined`);
    expect((await run("mcp__b__where")).output).toBe(`${root} bye undefined`);
  } finally {
    delete process.env["SLIPWAY_TOKEN"];
  }
});

it("[O3] results are bounded, kept complete in a log, and free of hidden characters", async () => {
  await openServers({ calc: node() });
  const { output, truncated } = await run("mcp__calc__long");
  expect([truncated, output.length < 17_500]).toEqual([true, true]);
  const path = /read \{"path": "([^"]+)"\}/.exec(output)?.[1] ?? "";
  expect((await run("read", { path, start: 50_000 })).output).toBe(" 50000\tline");
  expect(await run("mcp__calc__refuse")).toMatchObject({
    exitCode: 1,
    output: expect.stringMatching(/^no such thing\n\[1 hidden/),
  });
});

it("[O5] a server that dies or floods is reported, the others keep working, and no process is left", async () => {
  await openServers({ one: node("", "sleep 76.1"), two: node("", "sleep 76.1"), calc: node("", "sleep 76.1") });
  expect(isAnyLeft("sleep 76.1")).toBe(true);
  const dead = await run("mcp__one__die");
  expect(dead.output).toMatch(/"one" ended during the call: it ended with exit code 3. Standard error: out of luck/);
  expect((await run("mcp__two__flood")).output).toContain("it wrote more than 20 MB at once");
  expect(await run("mcp__calc__add", { a: 1, b: 1 })).toMatchObject({ output: "2" });
  for (const resource of open.splice(0)) await resource.close();
  expect(isAnyLeft("sleep 76.1")).toBe(false);
  expect((await run("mcp__calc__add", { a: 1, b: 1 })).output).toContain("has ended: it was ended");
});

it("[O5] a server that died is restarted by the next call, once for concurrent calls, and three times at most", async () => {
  await openServers({ calc: node("", "sleep 76.3") });
  for (let death = 1; death <= 3; death += 1) {
    await run("mcp__calc__die");
    const both = await Promise.all([run("mcp__calc__add", { a: 1, b: 1 }), run("mcp__calc__add", { a: 1, b: 2 })]);
    const outputs = both.map(({ output }) => output).sort();
    expect(outputs[0]).toBe("3");
    expect(outputs[1]).toMatch(
      /^\[The MCP server "calc" had ended \(it ended with exit code 3.*restarted: its state is lost\.\]\n2$/s,
    );
  }
  await run("mcp__calc__die");
  const { output, exitCode } = await run("mcp__calc__add", { a: 1, b: 1 });
  expect([exitCode, output]).toEqual([
    1,
    expect.stringMatching(/"calc" has ended: it ended with exit code 3.*Continue without its tools/s),
  ]);
  for (const resource of open.splice(0)) await resource.close();
  expect(isAnyLeft("sleep 76.3")).toBe(false);
});

it("[O5] a failing restart is reported with its reason; an aborted call does not wait for it, and closing ends it", async () => {
  const flag = join(root, "no-start");
  await openServers({ calc: node("unless", "sleep 76.4", flag) });
  await run("mcp__calc__die");
  writeFileSync(flag, "fail");
  expect((await run("mcp__calc__add", { a: 1, b: 1 })).output).toMatch(
    /has ended: .*could not be restarted: .*the licence has expired/s,
  );
  writeFileSync(flag, "hang");
  const stop = new AbortController();
  const running = run("mcp__calc__add", { a: 1, b: 1 }, stop.signal);
  await expect.poll(() => existsSync(`${flag}.hangs`)).toBe(true);
  stop.abort();
  await expect(running).rejects.toThrow();
  for (const resource of open.splice(0)) await resource.close();
  expect(isAnyLeft("sleep 76.4")).toBe(false);
});

it("[O5] a hanging call ends at its limit or when the agent is stopped; the server keeps working", async () => {
  await openServers({ calc: { ...node(), timeoutMs: 3_000 } });
  expect(await run("mcp__calc__hang")).toMatchObject({ exitCode: 1, output: expect.stringContaining("timed out") });
  const stop = new AbortController();
  const running = run("mcp__calc__hang", {}, stop.signal);
  setTimeout(() => stop.abort(), 50);
  await expect(running).rejects.toThrow();
  expect(await run("mcp__calc__add", { a: 1, b: 1 })).toMatchObject({ output: "2" });
});

it("[O5] servers that do not start or do not speak the protocol are reported as problems", async () => {
  const { problems } = await openServers({
    gone: { command: "no-such-program-here" },
    sick: node("no-start"),
    loud: node("babble", "sleep 76.2"),
    calc: node(),
  });
  expect(problems).toHaveLength(3);
  expect(problems[0]).toContain('"gone" could not be used: it could not be started');
  expect(problems[1]).toContain("exit code 7. Standard error: the licence has expired");
  expect(problems[2]).toContain("not protocol messages");
  expect(isAnyLeft("sleep 76.2")).toBe(false);
  expect(await run("mcp__calc__add", { a: 1, b: 1 })).toMatchObject({ output: "2" });
});

/** A server with one tool, and a proxy that leads to it and records the requested targets. */
async function behindHttp(): Promise<{ port: number; asked: string[]; proxy: string }> {
  const serve = createServer((request, response) => {
    const server = new SdkServer({ name: "far", version: "1" });
    server.registerTool("hi", {}, () => ({
      content: [{ type: "text", text: `hi ${String(request.headers["x-who"])}` }],
    }));
    const transport = new StreamableHTTPServerTransport({});
    void server.connect(transport as never).then(async () => await transport.handleRequest(request, response));
  });
  const asked: string[] = [];
  const proxy = createServer();
  const port = await listening(serve);
  proxy.on("connect", (request, near) => {
    asked.push(request.url ?? "");
    const far = connect(port, "127.0.0.1", () => near.write("HTTP/1.1 200 OK\r\n\r\n"));
    near.on("error", () => far.destroy()).pipe(far);
    far.on("error", () => near.destroy()).pipe(near);
  });
  return { port, asked, proxy: `http://127.0.0.1:${await listening(proxy)}` };
}
async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  open.push({ close: () => (server.closeAllConnections(), server.close()) });
  return (server.address() as AddressInfo).port;
}

it("a server behind HTTP is reached through the proxy, one on loopback directly", async () => {
  const { port, asked, proxy } = await behindHttp();
  const url = (host: string) => ({ url: `http://${host}:${port}/mcp`, headers: { "x-who": "there" } });
  const { problems } = await openServers({ far: url("tools.example.com"), near: url("127.0.0.1") }, proxy);
  expect(problems).toEqual([]);
  expect(await run("mcp__far__hi")).toMatchObject({ output: "hi there", exitCode: 0 });
  expect(new Set(asked)).toEqual(new Set([`tools.example.com:${port}`]));
  expect(await run("mcp__near__hi")).toMatchObject({ output: "hi there" });
});

it("[O5] an unreachable HTTP server is reported as a problem", async () => {
  const { problems } = await openServers({ none: { url: "http://127.0.0.1:9/mcp" } });
  expect(problems[0]).toContain('"none" could not be used');
});

it("the configuration is validated: names, addresses, and no unknown settings", () => {
  const good = {
    a: { command: "x", args: ["-v"], env: { A: "1" } },
    "b-2": { url: "https://example.com/mcp", timeoutMs: 5_000 },
  };
  expect(mcpServersSchema.parse(good)).toEqual(good);
  for (const bad of [
    { "a b": { command: "x" } },
    { a__b: { command: "x" } },
    { a: {} },
    { a: { command: "x", url: "http://x" } },
    { a: { url: "file:///etc/passwd" } },
    { a: { command: "x", timeoutMs: 5 } },
    Object.fromEntries(Array.from({ length: 11 }, (_, i) => [`s${i}`, { command: "x" }])),
  ])
    expect(mcpServersSchema.safeParse(bad).success).toBe(false);
});
