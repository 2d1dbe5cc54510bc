/**
 * Opens a session of an agent program: the program's own from an earlier attempt where it can
 * continue it, else a new one.
 */
import {
  methods,
  PROTOCOL_VERSION,
  RequestError,
  type AuthMethod,
  type ClientConnection,
  type InitializeResponse,
  type McpServer,
} from "@agentclientprotocol/sdk";
import { errorMessage } from "../../../src/core/error.ts";
import { truncate } from "../../lib/text.ts";
import { AgentFailure, type AgentContext } from "../agent.ts";
import type { AcpEventMapper } from "../programs/event-mapper.ts";
import { setOptions, type SessionOffer } from "./options.ts";

/** The protocol's code for a program that has no login. */
const AUTH_REQUIRED = -32_000;
/** Methods that need no person: the program reads a key from its environment. */
const KEY_METHOD = /api.?key/i;

export interface SessionParts {
  readonly agent: ClientConnection["agent"];
  readonly context: AgentContext;
  readonly events: AcpEventMapper;
  readonly root: string;
  readonly mode: string | null;
  /** Bounds the time of a response, and explains why it failed. */
  inTime<T>(response: Promise<T>): Promise<T>;
}

export interface OpenSession {
  readonly sessionId: string;
  /** A message can be put into the running turn. */
  readonly canSteer: boolean;
  /** Its conversation can be continued by a later process. */
  readonly canResume: boolean;
  /** Pictures may be part of a prompt. */
  readonly showsPictures: boolean;
}

/** The program cannot continue its earlier session. */
export class NotResumed extends Error {}

/**
 * @param earlier the session to continue; null = a new one.
 * @throws NotResumed when the program cannot continue it. @throws AgentFailure
 */
export async function openSession(parts: SessionParts, earlier: string | null): Promise<OpenSession> {
  try {
    return await open(parts, earlier);
  } catch (error) {
    parts.context.signal.throwIfAborted();
    // What was restored may also keep the program from starting.
    if (earlier === null || error instanceof NotResumed) throw error;
    throw new NotResumed(truncate(parts.context.secrets.redact(errorMessage(error)), 500));
  }
}

async function open(parts: SessionParts, earlier: string | null): Promise<OpenSession> {
  const { agent, context } = parts;
  const initialized = await parts.inTime(
    agent.request(methods.agent.initialize, {
      protocolVersion: PROTOCOL_VERSION,
      clientInfo: { name: "slipway", version: "1" },
      clientCapabilities: {
        fs: { readTextFile: false, writeTextFile: false },
        terminal: false,
        elicitation: { form: {} },
      },
    }),
  );
  if (initialized.protocolVersion !== PROTOCOL_VERSION)
    throw new AgentFailure(
      "agent_error",
      `The agent's program speaks version ${initialized.protocolVersion} of the protocol; version ${PROTOCOL_VERSION} is required.`,
    );
  const { mcpCapabilities, promptCapabilities, sessionCapabilities, loadSession } = initialized.agentCapabilities ?? {};
  const showsPictures = promptCapabilities?.image === true;
  const can = { resume: (sessionCapabilities?.resume ?? null) !== null, load: loadSession === true };
  const mcpServers = toMcpServers(context, parts.events, mcpCapabilities?.http === true);
  const offer =
    earlier === null
      ? await createSession(parts, initialized, mcpServers)
      : await continueSession(parts, { can, mcpServers, earlier });
  await setOptions(parts, offer);
  const steering = initialized._meta?.["steering"];
  const canSteer =
    typeof steering === "object" && steering !== null && "supported" in steering && steering.supported === true;
  return { sessionId: offer.sessionId, canSteer, canResume: can.resume || can.load, showsPictures };
}

interface EarlierSession {
  readonly can: { readonly resume: boolean; readonly load: boolean };
  readonly mcpServers: McpServer[];
  readonly earlier: string;
}

/** `load` repeats the conversation as updates, which are left out; `resume` does not. */
async function continueSession(
  parts: SessionParts,
  { can, mcpServers, earlier }: EarlierSession,
): Promise<SessionOffer> {
  const { agent, root, events } = parts;
  if (!can.resume && !can.load) throw new NotResumed("it cannot continue conversations");
  const request = { sessionId: earlier, cwd: root, mcpServers };
  events.mute(true);
  try {
    const offer = can.resume
      ? await parts.inTime(agent.request(methods.agent.session.resume, request))
      : await parts.inTime(agent.request(methods.agent.session.load, request));
    return { ...(typeof offer === "object" ? offer : {}), sessionId: earlier };
  } finally {
    // Updates that arrived before the response are handled before it is seen.
    await new Promise((resolve) => setImmediate(resolve));
    events.mute(false);
  }
}

async function createSession(
  parts: SessionParts,
  { authMethods = [] }: InitializeResponse,
  mcpServers: McpServer[],
): Promise<SessionOffer> {
  const { agent, root } = parts;
  const create = async () => await agent.request(methods.agent.session.new, { cwd: root, mcpServers });
  let isUnauthenticated = false;
  const first = await parts.inTime(
    create().catch((error: unknown) => {
      if (!isAuthError(error)) throw error;
      isUnauthenticated = true;
      return null;
    }),
  );
  if (first !== null && !isUnauthenticated) return first;
  const method = authMethods.find(({ id, name }) => KEY_METHOD.test(`${id} ${name}`));
  if (method === undefined) throw describeLogin(authMethods);
  return await parts.inTime(
    (async () => {
      await agent.request(methods.agent.authenticate, { methodId: method.id });
      return await create();
    })().catch((error: unknown) => {
      throw describeLogin(authMethods, parts.context.secrets.redact(errorMessage(error)));
    }),
  );
}

export const isAuthError = (error: unknown): boolean => error instanceof RequestError && error.code === AUTH_REQUIRED;

function describeLogin(offered: readonly AuthMethod[], reason = ""): AgentFailure {
  const names = offered.map(({ name, description }) => (description ? `${name} (${description})` : name));
  const list = names.length === 0 ? "It names no way to log in." : `It offers: ${names.join("; ")}.`;
  const why = reason === "" ? "" : ` ${truncate(reason, 500)}`;
  return new AgentFailure(
    "program_auth",
    `${list}${why} Nobody can log in within a sandbox: the program must take its model and key from the gateway (ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY) or from its image.`,
  );
}

/** The task's MCP servers in the protocol's form; the program starts them itself. */
function toMcpServers({ spec }: AgentContext, events: AcpEventMapper, supportsHttp: boolean): McpServer[] {
  const toPairs = (record: Readonly<Record<string, string>> = {}) =>
    Object.entries(record).map(([name, value]) => ({ name, value }));
  return Object.entries(spec.mcpServers ?? {}).flatMap(([name, server]): McpServer[] => {
    if ("command" in server)
      return [{ name, command: server.command, args: server.args ?? [], env: toPairs(server.env) }];
    if (supportsHttp) return [{ type: "http", name, url: server.url, headers: toPairs(server.headers) }];
    events.notice(
      "warning",
      "mcp_problem",
      `The agent's program does not support MCP servers over HTTP; "${name}" is left out.`,
    );
    return [];
  });
}
