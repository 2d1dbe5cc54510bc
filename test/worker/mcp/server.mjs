/** A real MCP server on standard input and output, with tools that behave well and badly. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { z } from "zod";

const [mode = "", mark = "sleep 76", file = ""] = process.argv.slice(2);
/** The content of the flag file; "" until it exists. */
const later = mode === "unless" && existsSync(file) ? readFileSync(file, "utf8") : "";
if (mode === "no-start" || later === "fail") {
  console.error("the licence has expired");
  process.exit(7);
}
if (mode === "babble") setInterval(() => process.stdout.write("hello\n".repeat(10_000)), 1);
spawn("setsid", mark.split(" "), { stdio: "ignore" });
if (later === "hang") {
  process.on("SIGTERM", () => {});
  writeFileSync(`${file}.hangs`, "");
  await new Promise(() => setInterval(() => {}, 1_000));
}

const server = new McpServer({ name: "test", version: "1" });
const text = (words) => ({ content: [{ type: "text", text: words }] });
server.registerTool(
  "add",
  { description: "Adds\u202e two numbers", inputSchema: { a: z.number(), b: z.number() } },
  ({ a, b }) => text(String(a + b)),
);
server.registerTool("where", {}, () => text(`${process.cwd()} ${process.env.GREETING} ${process.env.SLIPWAY_TOKEN}`));
server.registerTool("long", {}, () => text("line\n".repeat(50_000)));
server.registerTool("hang", {}, () => new Promise(() => {}));
server.registerTool("refuse", {}, () => ({ isError: true, ...text("no\u200b such thing") }));
server.registerTool("die", {}, () => {
  console.error("out of luck");
  process.exit(3);
});
server.registerTool("flood", {}, async () => {
  const line = `${JSON.stringify({ jsonrpc: "2.0", method: "notifications/message", params: { level: "info", data: "x".repeat(60_000) } })}\n`;
  for (;;) if (!process.stdout.write(line)) await once(process.stdout, "drain");
});
server.registerTool("picture", {}, () => ({ content: [{ type: "image", data: "aGk=", mimeType: "image/png" }] }));
await server.connect(new StdioServerTransport());
