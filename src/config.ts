/**
 * What a server is told from outside: environment and flags -> Config. Pure: reads nothing by itself and resolves no path.
 * A flag goes before its variable; an empty value counts as not given.
 */
import { z } from "zod";
import { parsePlace } from "./egress.ts";
import { SlipwayError } from "./error.ts";
import { EGRESS_POLICIES, type Egress, type Policy } from "./task.ts";

export const SANDBOX_KINDS = ["docker", "process", "simulated"] as const;
export type SandboxKind = (typeof SANDBOX_KINDS)[number];
export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** See src/sandbox/disks.ts. */
const DISK_MODES = ["auto", "loop", "watch", "tmpfs"] as const;

export interface Config {
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  /** As given; whoever starts the server makes it absolute. */
  readonly dataDir: string;
  readonly sandbox: SandboxKind;
  /** False when `sandbox` is the default: then a missing engine stops the start instead of making tasks wait. */
  readonly sandboxChosen: boolean;
  readonly maxConcurrent: number;
  /** Workers that are started ahead of their task (docker only). */
  readonly warm: number;
  /** What keeps a worker's workspace from growing (docker only). */
  readonly disk: (typeof DISK_MODES)[number];
  /** Size of the workspace of tasks that name none, MiB. */
  readonly diskMb: number;
  /** What a task may ask for at most; null = half of this machine's memory, and all of its cores. */
  readonly maxDiskMb: number;
  readonly maxMemoryMb: number | null;
  readonly maxCpus: number | null;
  /** With less free disk space than this nothing is claimed, MiB. */
  readonly minFreeMb: number;
  /** How workers in containers reach their broker. */
  readonly door: "auto" | "socket" | "tunnel";
  /** Slots that one user may hold at once; null = no limit. */
  readonly userLimit: number | null;
  readonly agent: string;
  readonly anthropicApiKey: string | null;
  /** Without a slash at the end. */
  readonly anthropicBaseUrl: string;
  readonly model: string | null;
  /** Names of models, or beginnings that end in `*`. */
  readonly models: readonly string[];
  /** US dollars per UTC day; null = no limit. */
  readonly userDayUsd: number | null;
  readonly dayUsd: number | null;
  /** A file with a price table (src/model/prices.ts); null = the built-in one. */
  readonly pricesFile: string | null;
  /** Policies that a task may have, the default first. */
  readonly egress: readonly [Egress, ...Egress[]];
  /** `host:port` that tasks may reach at private addresses. */
  readonly trustedEgressHosts: readonly string[];
  /** `host` or `host:port`, lower case. */
  readonly trustedRepoHosts: readonly string[];
  readonly admin: { readonly email: string; readonly password: string } | null;
  /** Origin under which people reach the server, without a slash at the end. */
  readonly publicUrl: string | null;
  /** Seals git credentials and signs sessions; null = the server keeps one in its data folder. The vault judges its form. */
  readonly secretKey: string | null;
  readonly logLevel: LogLevel;
  readonly policy: Partial<Policy>;
  readonly allowedOrigins: readonly string[];
  readonly retentionDays: number;
  readonly mirrorDays: number;
  /** Largest workspace that is salvaged, MiB before compression. */
  readonly salvageMb: number;
  /** Reverse proxies in front whose X-Forwarded-For is believed. */
  readonly trustProxy: number;
}

export interface Setting {
  readonly env: string;
  /** Long flag without dashes. */
  readonly flag: string;
  readonly argument: string;
  readonly help: string;
  /** Its value is never repeated in a message. */
  readonly secret?: true;
}

const DEFAULTS = { host: "127.0.0.1", port: "7080", dataDir: ".slipway", sandbox: "docker", maxConcurrent: "4", warm: "1" } as const;
const DISK = { mode: "auto", mb: 4_096, maxMb: 16_384, minFreeMb: 2_048 } as const;
const ANTHROPIC = "https://api.anthropic.com";

/** Every setting that people may make; the flags of `serve` come from here. SLIPWAY_POLICY is not among them: it is for tests. */
export const SETTINGS = {
  host: { env: "SLIPWAY_HOST", flag: "host", argument: "address", help: `address to listen on (${DEFAULTS.host})` },
  port: { env: "SLIPWAY_PORT", flag: "port", argument: "number", help: `port to listen on, 0 = any (${DEFAULTS.port})` },
  dataDir: { env: "SLIPWAY_DATA_DIR", flag: "data-dir", argument: "folder", help: `where everything is kept (${DEFAULTS.dataDir})` },
  sandbox: {
    env: "SLIPWAY_SANDBOX",
    flag: "sandbox",
    argument: "kind",
    help: "docker, process (not isolated) or simulated (docker)",
  },
  maxConcurrent: { env: "SLIPWAY_MAX_CONCURRENT", flag: "max-concurrent", argument: "number", help: "tasks that run at once (4)" },
  warm: { env: "SLIPWAY_WARM", flag: "warm", argument: "number", help: "workers that are started ahead, docker only, 0 = none (1)" },
  disk: {
    env: "SLIPWAY_DISK",
    flag: "disk",
    argument: "kind",
    help: "what bounds workspaces, docker only: auto, loop, watch, tmpfs (auto)",
  },
  diskMb: { env: "SLIPWAY_DISK_MB", flag: "disk-mb", argument: "megabytes", help: `workspace of tasks that name no size (${DISK.mb})` },
  maxDiskMb: {
    env: "SLIPWAY_MAX_DISK_MB",
    flag: "max-disk-mb",
    argument: "megabytes",
    help: `largest workspace of a task (${DISK.maxMb})`,
  },
  maxMemoryMb: {
    env: "SLIPWAY_MAX_MEMORY_MB",
    flag: "max-memory-mb",
    argument: "megabytes",
    help: "most memory of a task (half of the machine's)",
  },
  maxCpus: { env: "SLIPWAY_MAX_CPUS", flag: "max-cpus", argument: "number", help: "most cores of a task (the machine's)" },
  minFreeMb: {
    env: "SLIPWAY_MIN_FREE_MB",
    flag: "min-free-mb",
    argument: "megabytes",
    help: `with less free disk space no task is claimed (${DISK.minFreeMb})`,
  },
  door: {
    env: "SLIPWAY_DOOR",
    flag: "door",
    argument: "kind",
    help: "socket, tunnel or auto: how containers reach the server (auto)",
  },
  userLimit: { env: "SLIPWAY_USER_LIMIT", flag: "user-limit", argument: "number", help: "slots that one user may hold (no limit)" },
  agent: {
    env: "SLIPWAY_AGENT",
    flag: "agent",
    argument: "name",
    help: "agent of tasks that name none (anthropic with a key, else scripted)",
  },
  anthropicApiKey: {
    env: "ANTHROPIC_API_KEY",
    flag: "anthropic-api-key",
    argument: "key",
    help: "model key; better in the environment",
    secret: true,
  },
  anthropicBaseUrl: { env: "ANTHROPIC_BASE_URL", flag: "anthropic-base-url", argument: "url", help: `model endpoint (${ANTHROPIC})` },
  model: { env: "SLIPWAY_MODEL", flag: "model", argument: "name", help: "model of tasks that name none" },
  models: { env: "SLIPWAY_MODELS", flag: "models", argument: "list", help: "models that tasks may use; name or beginning* (claude-*)" },
  userDayUsd: {
    env: "SLIPWAY_USER_DAY_USD",
    flag: "user-day-usd",
    argument: "amount",
    help: "model budget of one user per day (no limit)",
  },
  dayUsd: { env: "SLIPWAY_DAY_USD", flag: "day-usd", argument: "amount", help: "model budget of all users per day (no limit)" },
  pricesFile: { env: "SLIPWAY_PRICES", flag: "prices", argument: "file", help: "JSON table of model prices (built in)" },
  egress: {
    env: "SLIPWAY_EGRESS",
    flag: "egress",
    argument: "policy",
    help: "what tasks that name no policy may reach: none, allowlist, open (none)",
  },
  egressOpen: { env: "SLIPWAY_EGRESS_OPEN", flag: "egress-open", argument: "0|1", help: "1 = tasks may ask for egress open (0)" },
  trustedEgressHosts: {
    env: "SLIPWAY_TRUSTED_EGRESS_HOSTS",
    flag: "trusted-egress-hosts",
    argument: "list",
    help: "host:port,... that a list may name although they are at private addresses",
  },
  trustedRepoHosts: {
    env: "SLIPWAY_TRUSTED_REPO_HOSTS",
    flag: "trusted-repo-hosts",
    argument: "list",
    help: "host[:port],... that may be reached by plain http or at private addresses",
  },
  adminEmail: { env: "SLIPWAY_ADMIN_EMAIL", flag: "admin-email", argument: "email", help: "first admin, made at boot" },
  adminPassword: {
    env: "SLIPWAY_ADMIN_PASSWORD",
    flag: "admin-password",
    argument: "password",
    help: "its password; better in the environment",
    secret: true,
  },
  publicUrl: { env: "SLIPWAY_PUBLIC_URL", flag: "public-url", argument: "url", help: "address under which people reach the server" },
  secretKey: {
    env: "SLIPWAY_SECRET_KEY",
    flag: "secret-key",
    argument: "key",
    help: "seals credentials and sessions; better in the environment (kept in the data folder)",
    secret: true,
  },
  logLevel: { env: "SLIPWAY_LOG_LEVEL", flag: "log-level", argument: "level", help: `${LOG_LEVELS.join(", ")} (info)` },
  allowedOrigins: {
    env: "SLIPWAY_ALLOWED_ORIGINS",
    flag: "allowed-origins",
    argument: "list",
    help: "further web origins that may open the live stream",
  },
  retentionDays: {
    env: "SLIPWAY_RETENTION_DAYS",
    flag: "retention-days",
    argument: "days",
    help: "repositories and artifacts of settled tasks are kept this long (30)",
  },
  mirrorDays: {
    env: "SLIPWAY_MIRROR_DAYS",
    flag: "mirror-days",
    argument: "days",
    help: "caches of upstreams are kept this long after their last use (30)",
  },
  salvageMb: {
    env: "SLIPWAY_SALVAGE_MB",
    flag: "salvage-mb",
    argument: "megabytes",
    help: "largest workspace that is kept of a sandbox that ended without saving, before compression (512)",
  },
  trustProxy: { env: "SLIPWAY_TRUST_PROXY", flag: "trust-proxy", argument: "hops", help: "reverse proxies in front of the server (0)" },
} as const satisfies Record<string, Setting>;

export type SettingName = keyof typeof SETTINGS;
export type Flags = Partial<Record<SettingName, string>>;
type Env = Readonly<Record<string, string | undefined>>;

const whole = (min: number, max: number) =>
  z
    .string()
    .regex(/^\d{1,9}$/)
    .transform(Number)
    .pipe(z.int().min(min).max(max));
const dollars = z
  .string()
  .regex(/^\d{1,7}(?:\.\d{1,4})?$/)
  .transform(Number);
const hostName = /^(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])$/i;
const hostAndPort = z
  .string()
  .toLowerCase()
  .refine((text) => {
    const port = /:(\d{1,5})$/.exec(text);
    return hostName.test(port ? text.slice(0, port.index) : text) && (port === null || Number(port[1]) <= 65_535);
  });
const webUrl = z.string().refine((text) => {
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  return ["http:", "https:"].includes(url.protocol) && url.username === "" && url.password === "" && url.search === "" && url.hash === "";
});
const trimSlash = (text: string): string => text.replace(/\/+$/, "");
const origin = webUrl.refine((text) => URL.canParse(text) && new URL(text).pathname === "/").transform((text) => new URL(text).origin);
const list = <T extends z.ZodType<string, string>>(item: T) =>
  z
    .string()
    .transform((text) =>
      text
        .split(",")
        .map((part) => part.trim())
        .filter((part) => part !== ""),
    )
    .pipe(z.array(item));

const ms = z.number().min(1).max(Number.MAX_SAFE_INTEGER);
const policySchema = z.strictObject({
  queueMs: ms,
  progressMs: ms,
  bootMs: ms,
  silenceMs: ms,
  wallMs: ms,
  parkMs: ms,
  answerMs: ms,
  pushMs: ms,
  graceMs: ms,
  cancelMs: ms,
  backoffMs: ms,
  backoffCapMs: ms,
} satisfies Record<keyof Policy, z.ZodType>);

/** Reads one setting at a time and complains in one sentence. */
function reader(env: Env, flags: Flags) {
  const given = (value: string | undefined): string | undefined => (value === undefined || value.trim() === "" ? undefined : value.trim());
  return function read<T>(name: SettingName, schema: z.ZodType<T, string>, expects: string): T | null {
    const setting: Setting = SETTINGS[name];
    const flag = given(flags[name]);
    const text = flag ?? given(env[setting.env]);
    if (text === undefined) return null;
    const result = schema.safeParse(text);
    if (result.success) return result.data;
    const source = flag === undefined ? setting.env : `--${setting.flag}`;
    const was = setting.secret ? "." : `, not ${JSON.stringify(text.slice(0, 100))}.`;
    throw new SlipwayError("config_invalid", `${source} must be ${expects}${was}`);
  };
}

function readPolicy(env: Env): Partial<Policy> {
  const text = env["SLIPWAY_POLICY"]?.trim();
  if (text === undefined || text === "") return {};
  const expects = `SLIPWAY_POLICY must be a JSON object of milliseconds by clock, for example {"graceMs":500}`;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new SlipwayError("config_invalid", `${expects}.`);
  }
  const result = policySchema.partial().safeParse(value);
  if (!result.success)
    throw new SlipwayError("config_invalid", `${expects}; the clocks are ${Object.keys(policySchema.shape).join(", ")}.`);
  return Object.fromEntries(Object.entries(result.data).filter(([, clock]) => clock !== undefined));
}

function readAdmin(read: ReturnType<typeof reader>): Config["admin"] {
  const email = read("adminEmail", z.email().max(254), "an e-mail address");
  const password = read("adminPassword", z.string().min(10).max(1_024), "at least 10 characters long");
  if (email === null && password === null) return null;
  if (email === null || password === null) {
    throw new SlipwayError("config_invalid", "SLIPWAY_ADMIN_EMAIL and SLIPWAY_ADMIN_PASSWORD must be set together.");
  }
  return { email, password };
}

function readAgent(read: ReturnType<typeof reader>, hasKey: boolean): string {
  const chosen = read("agent", z.string().regex(/^[a-z][a-z0-9_-]{0,49}$/), "the name of an agent, such as anthropic or scripted");
  if (chosen === "anthropic" && !hasKey)
    throw new SlipwayError("config_invalid", "SLIPWAY_AGENT=anthropic needs ANTHROPIC_API_KEY to be set.");
  return chosen ?? (hasKey ? "anthropic" : "scripted");
}

function readLimits(read: ReturnType<typeof reader>): Pick<Config, "disk" | "diskMb" | "maxDiskMb" | "maxMemoryMb" | "maxCpus"> {
  const size = whole(64, 1_048_576);
  const expects = "a whole number of megabytes from 64 to 1048576";
  const chosen = read("diskMb", size, expects);
  const maxDiskMb = read("maxDiskMb", size, expects) ?? Math.max(DISK.maxMb, chosen ?? 0);
  const diskMb = chosen ?? Math.min(DISK.mb, maxDiskMb);
  if (diskMb > maxDiskMb) throw new SlipwayError("config_invalid", "SLIPWAY_DISK_MB must not be larger than SLIPWAY_MAX_DISK_MB.");
  return {
    disk: read("disk", z.enum(DISK_MODES), `one of ${DISK_MODES.join(", ")}`) ?? DISK.mode,
    diskMb,
    maxDiskMb,
    maxMemoryMb: read("maxMemoryMb", whole(64, 65_536), "a whole number of megabytes from 64 to 65536"),
    maxCpus: read("maxCpus", whole(1, 64), "a whole number of cores from 1 to 64"),
  };
}

function readEgress(read: ReturnType<typeof reader>): Config["egress"] {
  const chosen = read("egress", z.enum(EGRESS_POLICIES), `one of ${EGRESS_POLICIES.join(", ")}`) ?? "none";
  const open = read("egressOpen", z.enum(["0", "1"]), "0 or 1") === "1";
  if (chosen === "open" && !open) throw new SlipwayError("config_invalid", "SLIPWAY_EGRESS=open needs SLIPWAY_EGRESS_OPEN=1.");
  return [chosen, ...EGRESS_POLICIES.filter((policy) => policy !== chosen && (open || policy !== "open"))];
}

/** @throws SlipwayError `config_invalid` with one sentence that names the setting and what it must be. */
export function readConfig(env: Env, flags: Flags = {}): Config {
  const read = reader(env, flags);
  const sandbox = read("sandbox", z.enum(SANDBOX_KINDS), `one of ${SANDBOX_KINDS.join(", ")}`);
  const anthropicApiKey = read("anthropicApiKey", z.string().regex(/^[\x21-\x7e]+$/), "printable ASCII without spaces");
  return {
    host: read("host", z.string().refine(isHost), "an address or a host name without a port") ?? DEFAULTS.host,
    port: read("port", whole(0, 65_535), "a whole number from 0 to 65535") ?? Number(DEFAULTS.port),
    dataDir: read("dataDir", z.string(), "a folder") ?? DEFAULTS.dataDir,
    sandbox: sandbox ?? DEFAULTS.sandbox,
    sandboxChosen: sandbox !== null,
    maxConcurrent: read("maxConcurrent", whole(1, 1_000), "a whole number from 1 to 1000") ?? Number(DEFAULTS.maxConcurrent),
    warm: read("warm", whole(0, 16), "a whole number from 0 to 16") ?? Number(DEFAULTS.warm),
    ...readLimits(read),
    minFreeMb: read("minFreeMb", whole(0, 100_000_000), "a whole number of megabytes") ?? DISK.minFreeMb,
    door: read("door", z.enum(["auto", "socket", "tunnel"]), "one of auto, socket, tunnel") ?? "auto",
    userLimit: read("userLimit", whole(1, 1_000), "a whole number from 1 to 1000"),
    agent: readAgent(read, anthropicApiKey !== null),
    anthropicApiKey,
    anthropicBaseUrl: trimSlash(read("anthropicBaseUrl", webUrl, "an http or https address without a query") ?? ANTHROPIC),
    model: read("model", z.string().regex(/^[\x21-\x7e]{1,100}$/), "the name of a model"),
    models: read("models", list(z.string().regex(/^[\x21-\x7e]{1,100}$/)), "a comma-separated list of models") ?? ["claude-*"],
    userDayUsd: read("userDayUsd", dollars, "an amount of US dollars such as 20"),
    dayUsd: read("dayUsd", dollars, "an amount of US dollars such as 100"),
    pricesFile: read("pricesFile", z.string(), "a file"),
    egress: readEgress(read),
    trustedEgressHosts:
      read("trustedEgressHosts", list(z.string().refine((text) => parsePlace(text) !== null)), "a comma-separated list of host:port") ?? [],
    trustedRepoHosts: read("trustedRepoHosts", list(hostAndPort), "a comma-separated list of host or host:port") ?? [],
    admin: readAdmin(read),
    publicUrl: read("publicUrl", origin, "an http or https address without a path"),
    secretKey: read("secretKey", z.string(), "a key"),
    logLevel: read("logLevel", z.enum(LOG_LEVELS), `one of ${LOG_LEVELS.join(", ")}`) ?? "info",
    policy: readPolicy(env),
    allowedOrigins: read("allowedOrigins", list(origin), "a comma-separated list of origins such as https://slipway.example.org") ?? [],
    retentionDays: read("retentionDays", whole(1, 3_650), "a number of days from 1 to 3650") ?? 30,
    mirrorDays: read("mirrorDays", whole(1, 3_650), "a number of days from 1 to 3650") ?? 30,
    salvageMb: read("salvageMb", whole(1, 100_000), "a number of megabytes from 1 to 100000") ?? 512,
    trustProxy: read("trustProxy", whole(0, 10), "the number of reverse proxies in front, 0 to 10") ?? 0,
  };
}

function isHost(text: string): boolean {
  return hostName.test(text) || /^[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:.]*$/i.test(text);
}
