/**
 * A filter between Slipway and the Docker engine, because access to the engine's socket equals
 * root. It forwards only the calls that Slipway makes (calls.ts) on resources of this installation,
 * and answers all others with 403. A forwarded request is built from the checked path, query, body
 * and headers.
 */
import {
  createServer,
  request as openRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import { pipeline } from "node:stream";
import { z } from "zod";
import { LABELS } from "../container-spec.ts";
import { PREPARE_LABEL } from "../image/names.ts";
import { CALLS, type Call, type Subject } from "./calls.ts";
import { committedSchema, createCreatedSchema, type Installation } from "./created.ts";

/** The description of a container with a seccomp profile and the variables of an image, bytes. */
const MAX_BODY = 1_024 * 1_024;
/** Longest explanation of a refused body, characters. */
const MAX_REASON = 500;
/** dockerode repeats the description in the address, bytes. */
const MAX_HEADERS = 1_024 * 1_024;

export interface EngineProxyOptions extends Installation {
  /** The engine's socket. */
  readonly engine: string;
  readonly report: (refusal: string) => void;
}

const REFUSED = "The proxy in front of the Docker engine refuses this call";

/** A call that is not passed on. 403, unless the engine gave another status when it was asked. */
class Refusal extends Error {
  readonly status: number;

  constructor(message: string, status = 403) {
    super(message);
    this.name = "Refusal";
    this.status = status;
  }
}

/** Of an answer that is about a container, a volume or a network. */
const foundSchema = z.object({
  Id: z.string().optional(),
  Labels: z.record(z.string(), z.string()).nullish(),
  Config: z.object({ Labels: z.record(z.string(), z.string()).nullish() }).optional(),
});

interface Checked {
  readonly call: Call;
  readonly path: string;
  readonly query: URLSearchParams;
  /** Name or id. */
  readonly subject: string | null;
}

/** @throws Refusal for a call that is not in the list. */
function checkAddress(method: string, url: string): Checked {
  const [path = "", search = ""] = url.split(/\?(.*)/s);
  const given = new URLSearchParams(search);
  const call = CALLS.find((one) => one.methods.includes(method) && one.path.test(path));
  if (call === undefined) throw new Refusal("Slipway does not make this call");
  const query = new URLSearchParams();
  for (const [name, value] of given) {
    const pattern = Object.hasOwn(call.query, name) ? call.query[name] : undefined;
    if (pattern === undefined && call.dropsOther) continue;
    if (pattern?.test(value) !== true || query.has(name)) throw new Refusal(`Slipway does not send this ${name}`);
    query.set(name, value);
  }
  const subject = call.path.exec(path)?.groups?.["subject"] ?? query.get("container");
  if (call.subject !== undefined && subject === null) throw new Refusal("it names nothing");
  return { call, path, query, subject };
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    length += piece.length;
    if (length > MAX_BODY) throw new Refusal("its body is too large");
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

export function createEngineProxy({ engine, report, ...installation }: EngineProxyOptions): Server {
  const { instance } = installation;
  const bodies = { created: createCreatedSchema(installation), committed: committedSchema };

  const ask = (method: string, path: string, headers: Record<string, string> = {}) =>
    openRequest({ socketPath: engine, method, path, headers, agent: false });

  /**
   * @returns the id, or the name of what has no id.
   * @throws Refusal when it is not this installation's, or the engine does not have it.
   */
  async function findOwn(kind: Subject, name: string): Promise<string> {
    const path = `/${kind}/${encodeURIComponent(name)}${kind === "containers" ? "/json" : ""}`;
    const answer = await new Promise<IncomingMessage>((resolve, reject) =>
      ask("GET", path).on("response", resolve).on("error", reject).end(),
    );
    const text = (await readBody(answer)).toString("utf8");
    if (answer.statusCode !== 200) throw new Refusal(text, answer.statusCode);
    const { Id = name, Labels, Config } = foundSchema.parse(JSON.parse(text));
    const labels = Labels ?? Config?.Labels ?? {};
    if (labels[LABELS.instance] !== instance && labels[PREPARE_LABEL] !== instance)
      throw new Refusal(`${name} is not Slipway's`);
    return Id;
  }

  /** The address, with the id in place of a name, which may be given away meanwhile. */
  async function resolveAddress({ call, path, query, subject }: Checked): Promise<string> {
    let target = path;
    if (call.subject !== undefined && subject !== null) {
      const id = await findOwn(call.subject, subject);
      if (query.has("container")) query.set("container", id);
      else target = `/${call.subject}/${id}${path.slice(`/${call.subject}/${subject}`.length)}`;
    }
    return query.size === 0 ? target : `${target}?${query.toString()}`;
  }

  async function readChecked(request: IncomingMessage, kind: "created" | "committed"): Promise<string> {
    let given: unknown;
    try {
      given = JSON.parse((await readBody(request)).toString("utf8"));
    } catch (error) {
      if (error instanceof SyntaxError) throw new Refusal("its body is not JSON");
      throw error;
    }
    const { data, error } = bodies[kind].safeParse(given);
    if (data === undefined)
      throw new Refusal(`Slipway sends no such body: ${z.prettifyError(error).slice(0, MAX_REASON)}`);
    return JSON.stringify(data);
  }

  async function pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "" } = request;
    const checked = checkAddress(method, request.url ?? "");
    const { body } = checked.call;
    const path = await resolveAddress(checked);
    const isTar = body === "tar";
    const text = body === undefined || isTar ? "" : await readChecked(request, body);
    const headers: Record<string, string> = isTar
      ? { "content-type": "application/x-tar" }
      : text === ""
        ? {}
        : { "content-type": "application/json", "content-length": String(Buffer.byteLength(text)) };
    const outgoing = ask(method, path, headers);
    response.on("close", () => outgoing.destroy());
    outgoing.on("error", () => {
      if (!response.headersSent) response.destroy();
    });
    outgoing.on("response", (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      response.flushHeaders();
      pipeline(answer, response, () => undefined);
    });
    if (isTar) pipeline(request, outgoing, () => undefined);
    else outgoing.end(text);
  }

  const server = createServer({ maxHeaderSize: MAX_HEADERS, requestTimeout: 0 }, (request, response) => {
    pass(request, response).catch((error: unknown) => {
      // Resets the connection, so that Slipway sees an engine that does not answer.
      if (!(error instanceof Refusal)) return void response.destroy();
      request.resume();
      const isOwn = error.status === 403;
      if (isOwn) report(`${request.method} ${request.url?.split("?")[0]}: ${error.message}`);
      response.writeHead(error.status, { "content-type": "application/json", connection: "close" });
      response.end(isOwn ? JSON.stringify({ message: `${REFUSED}: ${error.message}.` }) : error.message);
    });
  });
  return server;
}
