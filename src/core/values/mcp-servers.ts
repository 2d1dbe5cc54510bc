/** Configuration of MCP servers, from repositories and operators. */
import { z } from "zod";

const SERVERS = 10;

const timeoutMs = z.int().min(1_000).max(600_000).optional().describe("The longest call, ms; 120000 if not given.");

const stdioServerSchema = z.strictObject({
  /** A program on the PATH or a path; its working directory is the workspace. */
  command: z.string().min(1).max(1_000),
  args: z.array(z.string().max(4_000)).max(100).optional(),
  /** Added to the minimal environment. Not for secrets: the agent can read it. */
  env: z.record(z.string().regex(/^[A-Za-z_]\w{0,99}$/), z.string().max(4_000)).optional(),
  timeoutMs,
});

const httpServerSchema = z.strictObject({
  /** Reached through the egress proxy, so the egress policy must allow its host. */
  url: z.url({ protocol: /^https?$/ }).max(2_000),
  headers: z.record(z.string().regex(/^[!#$%&'*+.^`|~\w-]{1,100}$/), z.string().max(4_000)).optional(),
  timeoutMs,
});

/** Server name -> server. The name is part of its tools' names: `mcp__name__tool`. */
export const mcpServersSchema = z
  .record(
    z.string().regex(/^[a-zA-Z0-9][a-zA-Z0-9-]{0,31}$/, "a name of letters, digits and -"),
    z.union([stdioServerSchema, httpServerSchema]),
  )
  .refine((servers) => Object.keys(servers).length <= SERVERS, `at most ${SERVERS} servers`);
export type McpServers = z.infer<typeof mcpServersSchema>;
export type McpServer = McpServers[string];
