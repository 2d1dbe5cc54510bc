/**
 * The servers that `slipway login --url` reached, by name, and which of them commands talk to: a
 * file beside that of the sessions. It holds no secrets.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { CliExit, EXIT } from "../exit.ts";
import { sessionFilePath } from "../session-file.ts";

/** The name that stands for no context: the server of the data folder. */
export const LOCAL = "local";
const NAME = /^[a-z0-9][a-z0-9.:_-]{0,99}$/;

export interface Contexts {
  /** Null = the server of the data folder. */
  readonly current: string | null;
  /** Address by name. */
  readonly servers: Readonly<Record<string, string>>;
}

const NONE: Contexts = { current: null, servers: {} };
const filePath = (env: NodeJS.ProcessEnv): string => join(dirname(sessionFilePath(env)), "contexts.json");

/** A missing or damaged file counts as empty. */
export function readContexts(env: NodeJS.ProcessEnv): Contexts {
  try {
    const body: unknown = JSON.parse(readFileSync(filePath(env), "utf8"));
    if (typeof body !== "object" || body === null || !("servers" in body)) return NONE;
    const servers = Object.fromEntries(
      Object.entries(body.servers ?? {}).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
    );
    const current = "current" in body && typeof body.current === "string" ? body.current : null;
    return { servers, current: current !== null && Object.hasOwn(servers, current) ? current : null };
  } catch {
    return NONE;
  }
}

/** Replaces the file as a whole. */
function writeContexts(env: NodeJS.ProcessEnv, contexts: Contexts): void {
  const path = filePath(env);
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, `${JSON.stringify(contexts, null, 2)}\n`, { mode: 0o600 });
  renameSync(draft, path);
}

/** Remembers a server and makes it the current one. @returns its name. */
export function rememberContext(env: NodeJS.ProcessEnv, url: string, name = new URL(url).host): string {
  if (!NAME.test(name) || name === LOCAL)
    throw new CliExit(
      EXIT.usage,
      `A context is named with lower-case letters, digits and . : _ -, and not "${LOCAL}".`,
    );
  const { servers } = readContexts(env);
  writeContexts(env, { current: name, servers: { ...servers, [name]: url } });
  return name;
}

/** @param name a context, or "local". @throws CliExit for an unknown name. */
export function useContext(env: NodeJS.ProcessEnv, name: string): void {
  if (name !== LOCAL) addressOf(env, name);
  writeContexts(env, { ...readContexts(env), current: name === LOCAL ? null : name });
}

/** @throws CliExit for an unknown name. @returns the address that it had. */
export function forgetContext(env: NodeJS.ProcessEnv, name: string): string {
  const url = addressOf(env, name);
  const { current, servers } = readContexts(env);
  const { [name]: _, ...others } = servers;
  writeContexts(env, { current: current === name ? null : current, servers: others });
  return url;
}

/** @throws CliExit for an unknown name. */
export function addressOf(env: NodeJS.ProcessEnv, name: string): string {
  const { servers } = readContexts(env);
  const url = Object.hasOwn(servers, name) ? servers[name] : undefined;
  if (url !== undefined) return url;
  const known = [LOCAL, ...Object.keys(servers)].join(", ");
  throw new CliExit(EXIT.usage, `There is no context ${JSON.stringify(name)}. Known are: ${known}.`);
}
