/**
 * Parses `.slipway.yml`, the settings of a repository. The text is not trusted, and the parser is
 * recursive: long or deeply nested text is refused before it is parsed, because a stack overflow
 * would end the process.
 */
import { Lexer, LineCounter, Parser, parseDocument, type CST } from "yaml";
import { z } from "zod";
import { errorMessage } from "../../../core/error.ts";
import { EGRESS_POLICIES, type Egress } from "../../../core/task.ts";
import { parseEndpoint } from "../../../core/values/egress-policy.ts";
import { OWN_IMAGE, parseImageReference } from "../../../core/values/image-reference.ts";
import { mcpServersSchema, type McpServers } from "../../../core/values/mcp-servers.ts";
import { SETUP_MINUTES } from "../../../core/protocol/worker.ts";

export const REPOSITORY_CONFIG_FILE = ".slipway.yml";
/** Larger files are not read. */
export const REPOSITORY_CONFIG_BYTES = 64 * 1_024;
const DEFAULT_MINUTES = 10;
const LEXEMES = 10_000;
const DEPTH = 20;

const command = z
  .string()
  .max(4_000)
  .refine((text) => text.trim() !== "", "must not be empty")
  .refine((text) => !text.includes("\0"), "must not contain NUL");

const setupCommand = z.preprocess(
  (value) => (typeof value === "string" ? { run: value } : value),
  z.strictObject({
    run: command,
    timeoutMinutes: z.number().positive().max(SETUP_MINUTES).default(DEFAULT_MINUTES),
    cached: z.boolean().optional(),
  }),
);

const cache = z.union([z.boolean(), z.strictObject({ files: z.array(z.string().min(1).max(500)).max(50) })]);

const image = z.string().transform((text, context) => {
  if (text === OWN_IMAGE) return OWN_IMAGE;
  try {
    return parseImageReference(text);
  } catch (error) {
    context.addIssue({ code: "custom", message: errorMessage(error) });
    return z.NEVER;
  }
});

const hostAndPort = z.string().refine((text) => parseEndpoint(text) === text, "must be host:port");

const schema = z.strictObject({
  image: image.nullish(),
  setup: z.array(setupCommand).max(20).nullish(),
  cache: cache.nullish(),
  verify: z.array(command).max(20).nullish(),
  mcp: mcpServersSchema.nullish(),
  egress: z
    .strictObject({ hosts: z.array(hostAndPort).max(50).nullish(), setup: z.enum(EGRESS_POLICIES).nullish() })
    .nullish(),
});

export interface SetupCommand {
  readonly run: string;
  readonly timeoutMinutes: number;
  /** What it makes is kept for later tasks; absent = where it is known to install dependencies. */
  readonly cached?: boolean | undefined;
}

export interface RepositoryConfig {
  /** Canonical, OWN_IMAGE, or null = the file names none. */
  readonly image: string | null;
  readonly setup: readonly SetupCommand[];
  /**
   * Files and folders that decide what the setup makes, beside lock files; null = nothing of the
   * setup is kept.
   */
  readonly cacheFiles: readonly string[] | null;
  readonly verify: readonly string[];
  /** MCP servers for the agent, run in its sandbox. */
  readonly mcp: McpServers;
  /** Requested egress, `host:port`. */
  readonly hosts: readonly string[];
  /** The setup reaches no more than this; null = what the installation gives it. */
  readonly setupEgress: Egress | null;
}

/** `config_invalid`: the whole file is ignored. `config_unknown_key`: only that key is ignored. */
export interface ConfigWarning {
  readonly code: "config_invalid" | "config_unknown_key";
  readonly text: string;
}

export interface ParsedConfig {
  readonly config: RepositoryConfig;
  readonly warnings: readonly ConfigWarning[];
}

export const NO_CONFIG: RepositoryConfig = {
  image: null,
  setup: [],
  cacheFiles: [],
  verify: [],
  mcp: {},
  hosts: [],
  setupEgress: null,
};

/** The result for a file that is ignored as a whole. */
export function invalidConfig(why: string): ParsedConfig {
  const text = `${REPOSITORY_CONFIG_FILE} is not used: ${why} The task goes on without it.`;
  return { config: NO_CONFIG, warnings: [{ code: "config_invalid", text }] };
}

/** Never throws. */
export function parseRepositoryConfig(text: string): ParsedConfig {
  const refusal = checkSize(text);
  if (refusal !== null) return invalidConfig(refusal);
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, version: "1.2" });
  const toLine = (offset: number): number => lines.linePos(offset).line;
  const [broken] = document.errors;
  if (broken !== undefined) return invalidConfig(`line ${toLine(broken.pos[0])}: ${broken.message}.`);
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 0 }) ?? {};
  } catch {
    return invalidConfig("aliases (*name) are not supported.");
  }
  const findLine = (path: readonly PropertyKey[]): number => {
    for (let length = path.length; length > 0; length -= 1) {
      const node: unknown = document.getIn(path.slice(0, length), true);
      const range: unknown = typeof node === "object" && node !== null && "range" in node ? node.range : null;
      if (Array.isArray(range)) return toLine(Number(range[0]));
    }
    return 1;
  };
  return validateConfig(value, findLine);
}

function validateConfig(value: unknown, findLine: (path: readonly PropertyKey[]) => number): ParsedConfig {
  const warnings: ConfigWarning[] = [];
  const first = schema.safeParse(value);
  for (const issue of first.error?.issues ?? []) {
    if (issue.code !== "unrecognized_keys") continue;
    for (const key of issue.keys) {
      const path = [...issue.path, key];
      const text = `${REPOSITORY_CONFIG_FILE}, line ${findLine(path)}: the key "${path.join(".").slice(0, 100)}" is not known and has no effect.`;
      warnings.push({ code: "config_unknown_key", text });
      removeKey(value, path);
    }
  }
  const result = warnings.length === 0 ? first : schema.safeParse(value);
  if (!result.success) {
    const [issue] = result.error.issues;
    const path = issue?.path ?? [];
    const what = path.length === 0 ? "the file" : path.map(String).join(".");
    const { config, warnings: refused } = invalidConfig(
      `line ${findLine(path)}: ${what}: ${issue?.message ?? "is not valid"}.`,
    );
    return { config, warnings: [...warnings, ...refused] };
  }
  const { image: name, setup, cache: kept, verify, mcp, egress } = result.data;
  const config = {
    image: name ?? null,
    setup: setup ?? [],
    cacheFiles: kept === false ? null : typeof kept === "object" ? (kept?.files ?? []) : [],
    verify: verify ?? [],
    mcp: mcp ?? {},
    hosts: egress?.hosts ?? [],
    setupEgress: egress?.setup ?? null,
  };
  return { config, warnings };
}

/** Removes one key from a value that came from YAML. */
function removeKey(value: unknown, path: readonly PropertyKey[]): void {
  const parent = path
    .slice(0, -1)
    .reduce<unknown>((node, key) => (isRecord(node) ? Reflect.get(node, key) : null), value);
  if (isRecord(parent)) Reflect.deleteProperty(parent, path.at(-1) ?? "");
}

function isRecord(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}

/** Why the text must not be parsed; null when it is safe to parse. */
function checkSize(text: string): string | null {
  let count = 0;
  for (const _ of new Lexer().lex(text)) if (++count > LEXEMES) return "it has too many entries.";
  const open = [...new Parser().parse(text)].map((token) => ({ token, depth: 1 }));
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (next.depth > DEPTH) return "it is nested too deeply.";
    for (const token of listChildren(next.token)) open.push({ token, depth: next.depth + 1 });
  }
  return null;
}

function listChildren(token: CST.Token): CST.Token[] {
  if (token.type === "document") return token.value === undefined ? [] : [token.value];
  if (!("items" in token)) return [];
  return token.items.flatMap((item) => [item.key ?? [], item.value ?? []].flat());
}
