/**
 * Environment and flags -> Config. Pure: reads no file and resolves no path. A flag has precedence
 * over its variable; an empty value counts as not given.
 */
import { z } from "zod";
import { parseEndpoint } from "../core/values/egress-policy.ts";
import type { AgentPrograms } from "../core/values/agent-program.ts";
import { readAgentPrograms } from "./settings/agent-programs.ts";
import { readBackupSettings, type BackupSettings } from "./settings/backup-settings.ts";
import { readBounds, type BoundSettings } from "./settings/bound-settings.ts";
import { findUnknownVariables } from "./settings/unknown-variables.ts";
import { readGitSettings, type GitSettings } from "./settings/git-settings.ts";
import {
  allowedOrigin,
  budgetDollars,
  dollars,
  hostAndPort,
  hostName,
  imageRule,
  IMAGES,
  list,
  origin,
  trimSlash,
  webUrl,
  whole,
  type Read,
} from "./settings/values.ts";
import { ANTHROPIC, DEFAULTS, DISK, LOG_LEVELS, type Setting } from "./settings/defaults.ts";
import { SETTINGS, type SettingName } from "./options.ts";
import { readProviderSettings, type ProviderSettings } from "../auth/providers/settings.ts";
import { SlipwayError } from "../core/error.ts";
import { matchesPattern } from "../core/values/name-pattern.ts";
import { EGRESS_POLICIES, type Egress, type Policy } from "../core/task.ts";

const ORIGINS = "a comma-separated list of origins such as https://slipway.example.org or capacitor://localhost";
export const SANDBOX_KINDS = ["docker", "process", "simulated"] as const;
export type SandboxKind = (typeof SANDBOX_KINDS)[number];
export type LogLevel = (typeof LOG_LEVELS)[number];

/** See src/sandbox/docker/disk/workspace-disk.ts. */
const DISK_MODES = ["auto", "loop", "watch", "tmpfs"] as const;

export interface Config extends BackupSettings, BoundSettings, GitSettings {
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  /** As given; the caller of `serve` resolves it. */
  readonly dataDir: string;
  readonly sandbox: SandboxKind;
  /**
   * False when `sandbox` is the default: then a missing engine stops the start instead of making
   * tasks wait.
   */
  readonly sandboxChosen: boolean;
  readonly maxConcurrent: number;
  /** Workers that are started ahead of their task (docker only). */
  readonly warm: number;
  /** What the image of tasks that choose none contains besides the worker. */
  readonly workerTools: "full" | "slim";
  /** What keeps a worker's workspace from growing (docker only). */
  readonly disk: (typeof DISK_MODES)[number];
  /** Size of the workspace of tasks that name none, MiB. */
  readonly diskMb: number;
  /**
   * What a task may ask for at most; null = half of this machine's memory, and all of its cores.
   */
  readonly maxDiskMb: number;
  readonly maxMemoryMb: number | null;
  readonly maxCpus: number | null;
  /** With less free disk space than this nothing is claimed, MiB. */
  readonly minFreeMb: number;
  /** How workers in containers reach their broker. */
  readonly transport: "auto" | "socket" | "tunnel";
  /** Slots that one user may hold at once; null = no limit. */
  readonly userLimit: number | null;
  readonly agent: string;
  readonly anthropicApiKey: string | null;
  /** Agents that are programs in the worker's image. */
  readonly programs: AgentPrograms;
  /** Without a slash at the end. */
  readonly anthropicBaseUrl: string;
  /** Of tasks that name none; null only without a key. */
  readonly model: string | null;
  /** Names of models, or prefixes followed by `*`. */
  readonly models: readonly string[];
  /** Continues a task when its own model declined; null = the task fails. */
  readonly fallbackModel: string | null;
  /** Reviews changes of the built-in agent; null = none does. */
  readonly reviewModel: string | null;
  readonly review: (typeof REVIEW_MODES)[number];
  /**
   * The built-in agent summarizes conversations of so many tokens; null = by the model's window.
   */
  readonly compactAt: number | null;
  /** Betas of the model API that are permitted beside the built-in ones; the same form. */
  readonly modelBetas: readonly string[];
  /** US dollars per UTC day; null = no limit. */
  readonly userDayUsd: number | null;
  /** Of the threads of submissions that name no budget of their thread. */
  readonly threadUsd: number | null;
  readonly dayUsd: number | null;
  /** A file with a price table (src/broker/model/prices.ts); null = the built-in one. */
  readonly pricesFile: string | null;
  /** Policies that a task may have, the default first. */
  readonly egress: readonly [Egress, ...Egress[]];
  readonly setupEgress: Egress;
  /** `host:port` that tasks may reach at private addresses. */
  readonly trustedEgressHosts: readonly string[];
  /** `host` or `host:port`, lower case, of push services. */
  readonly trustedPushHosts: readonly string[];
  /** Images that tasks and repositories may choose, as parseImageRule gives them. */
  readonly images: readonly string[];
  /** Providers whose log-ins are accepted in addition to passwords. */
  readonly providers: readonly ProviderSettings[];
  readonly admin: { readonly email: string; readonly password: string } | null;
  /** Origin under which people reach the server, without a slash at the end. */
  readonly publicUrl: string | null;
  /** Beyond loopback without https. */
  readonly insecureLan: boolean;
  /**
   * Wraps the keys that seal git credentials and sign sessions; null = the server keeps one in its
   * data folder. The vault judges its form. At most one of the two is set.
   */
  readonly secretKey: string | null;
  readonly secretKeyFile: string | null;
  readonly logLevel: LogLevel;
  readonly policy: Partial<Policy>;
  readonly allowedOrigins: readonly string[];
  readonly retentionDays: number;
  readonly auditDays: number;
  /** Null = settled tasks are kept. */
  readonly tasksExpireDays: number | null;
  readonly mirrorDays: number;
  /** Largest workspace that is salvaged, MiB before compression. */
  readonly salvageMb: number;
  /** What an operator should change, one sentence each. */
  readonly warnings: readonly string[];
}

/** By setting name; the flag of an earlier version under its own name. */
export type Flags = Readonly<Record<string, string | undefined>>;
type Env = Readonly<Record<string, string | undefined>>;

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

/** Reads one setting at a time; a wrong value is one sentence. */
function reader(env: Env, flags: Flags, warnings: string[]): Read {
  const given = (value: string | undefined): string | undefined =>
    value === undefined || value.trim() === "" ? undefined : value.trim();
  function formerly({ env: variable, flag, formerly: old }: Setting): string | undefined {
    if (old === undefined) return undefined;
    const fromFlag = given(flags[old.flag]);
    const text = fromFlag ?? given(env[old.env]);
    if (text === undefined) return undefined;
    const [before, now] = fromFlag === undefined ? [old.env, variable] : [`--${old.flag}`, `--${flag}`];
    warnings.push(`${before} is now ${now}; the old name stops working in the next minor version.`);
    return text;
  }
  return function read<T>(name: SettingName, schema: z.ZodType<T, string>, expects: string): T | null {
    const setting: Setting = SETTINGS[name];
    const flag = given(flags[name]);
    const other = setting.also?.find((variable) => given(env[variable]) !== undefined);
    const own = flag ?? given(env[setting.env]) ?? formerly(setting);
    const text = own ?? given(env[other ?? ""]);
    if (text === undefined) return null;
    const result = schema.safeParse(text);
    if (result.success) return result.data;
    const variable = own === undefined ? other : setting.env;
    const source = flag === undefined ? variable : `--${setting.flag}`;
    // An address may contain a password.
    const was = setting.secret || text.includes("@") ? "." : `, not ${JSON.stringify(text.slice(0, 100))}.`;
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
    throw new SlipwayError(
      "config_invalid",
      `${expects}; the clocks are ${Object.keys(policySchema.shape).join(", ")}.`,
    );
  return Object.fromEntries(Object.entries(result.data).filter(([, clock]) => clock !== undefined));
}

function readAdmin(read: Read): Config["admin"] {
  const email = read("adminEmail", z.email().max(254), "an e-mail address");
  const password = read("adminPassword", z.string().min(10).max(1_024), "at least 10 characters long");
  if (email === null && password === null) return null;
  if (email === null || password === null) {
    throw new SlipwayError("config_invalid", "SLIPWAY_ADMIN_EMAIL and SLIPWAY_ADMIN_PASSWORD must be set together.");
  }
  return { email, password };
}

function readAgent(read: Read, hasKey: boolean): string {
  const chosen = read(
    "agent",
    z.string().regex(/^[a-z][a-z0-9_-]{0,49}$/),
    "the name of an agent, such as anthropic or scripted",
  );
  if (chosen === "anthropic" && !hasKey)
    throw new SlipwayError("config_invalid", "SLIPWAY_AGENT=anthropic needs ANTHROPIC_API_KEY to be set.");
  return chosen ?? (hasKey ? "anthropic" : "scripted");
}

const REVIEW_MODES = ["on_request", "always"] as const;

type ModelSettings = Pick<Config, "model" | "models" | "fallbackModel" | "reviewModel" | "review">;

function readModels(read: Read, hasKey: boolean): ModelSettings {
  const name = z.string().regex(/^[\x21-\x7e]{1,100}$/);
  const models = read("models", list(name), "a comma-separated list of models") ?? ["claude-*"];
  const readOne = (setting: "model" | "fallbackModel" | "reviewModel"): string | null => {
    const one = read(setting, name, "the name of a model");
    if (one === null || matchesPattern(models, one)) return one;
    const variable = SETTINGS[setting].env;
    throw new SlipwayError(
      "config_invalid",
      `${variable} names "${one}", which SLIPWAY_MODELS does not list: ${models.join(", ")}.`,
    );
  };
  const [chosen, fallbackModel] = [readOne("model"), readOne("fallbackModel")];
  const usual = hasKey && matchesPattern(models, DEFAULTS.reviewModel) ? DEFAULTS.reviewModel : null;
  const reviewModel = readOne("reviewModel") ?? usual;
  const review = read("review", z.enum(REVIEW_MODES), REVIEW_MODES.join(" or ")) ?? "on_request";
  const rest = { models, fallbackModel, reviewModel, review };
  if (chosen !== null || !hasKey) return { model: chosen, ...rest };
  const model = [DEFAULTS.model, ...models.filter((pattern) => !pattern.endsWith("*"))].find((name) =>
    matchesPattern(models, name),
  );
  if (model === undefined)
    throw new SlipwayError("config_invalid", "SLIPWAY_MODEL must name one of the models that SLIPWAY_MODELS lists.");
  return { model, ...rest };
}

function readLimits(read: Read): Pick<Config, "disk" | "diskMb" | "maxDiskMb" | "maxMemoryMb" | "maxCpus"> {
  const size = whole(64, 1_048_576);
  const expects = "a whole number of megabytes from 64 to 1048576";
  const chosen = read("diskMb", size, expects);
  const maxDiskMb = read("maxDiskMb", size, expects) ?? Math.max(DISK.maxMb, chosen ?? 0);
  const diskMb = chosen ?? Math.min(DISK.mb, maxDiskMb);
  if (diskMb > maxDiskMb)
    throw new SlipwayError("config_invalid", "SLIPWAY_DISK_MB must not be larger than SLIPWAY_MAX_DISK_MB.");
  return {
    disk: read("disk", z.enum(DISK_MODES), `one of ${DISK_MODES.join(", ")}`) ?? DISK.mode,
    diskMb,
    maxDiskMb,
    maxMemoryMb: read("maxMemoryMb", whole(64, 65_536), "a whole number of megabytes from 64 to 65536"),
    maxCpus: read("maxCpus", whole(1, 64), "a whole number of cores from 1 to 64"),
  };
}

function readEgress(read: Read): Config["egress"] {
  const chosen = read("egress", z.enum(EGRESS_POLICIES), `one of ${EGRESS_POLICIES.join(", ")}`) ?? "none";
  const open = read("egressOpen", z.enum(["0", "1"]), "0 or 1") === "1";
  if (chosen === "open" && !open)
    throw new SlipwayError("config_invalid", "SLIPWAY_EGRESS=open needs SLIPWAY_EGRESS_OPEN=1.");
  return [chosen, ...EGRESS_POLICIES.filter((policy) => policy !== chosen && (open || policy !== "open"))];
}

function readSetupEgress(read: Read, offered: Config["egress"]): Egress {
  const chosen = read("setupEgress", z.enum(EGRESS_POLICIES), `one of ${EGRESS_POLICIES.join(", ")}`) ?? "allowlist";
  if (chosen === "open" && !offered.includes("open"))
    throw new SlipwayError("config_invalid", "SLIPWAY_SETUP_EGRESS=open needs SLIPWAY_EGRESS_OPEN=1.");
  return chosen;
}

type Retention = "retentionDays" | "auditDays" | "tasksExpireDays" | "mirrorDays" | "salvageMb";

function readRetention(read: Read): Pick<Config, Retention> {
  return {
    retentionDays: read("retentionDays", whole(1, 3_650), "a number of days from 1 to 3650") ?? 30,
    auditDays: read("auditDays", whole(1, 36_500), "a number of days from 1 to 36500") ?? 400,
    tasksExpireDays: read("tasksExpireDays", whole(1, 36_500), "a number of days from 1 to 36500"),
    mirrorDays: read("mirrorDays", whole(1, 3_650), "a number of days from 1 to 3650") ?? 30,
    salvageMb: read("salvageMb", whole(1, 100_000), "a number of megabytes from 1 to 100000") ?? 512,
  };
}

function readSecretKey(read: Read): Pick<Config, "secretKey" | "secretKeyFile"> {
  const secretKey = read("secretKey", z.string(), "a key");
  const secretKeyFile = read("secretKeyFile", z.string(), "a file");
  if (secretKey !== null && secretKeyFile !== null)
    throw new SlipwayError("config_invalid", "Set SLIPWAY_SECRET_KEY or SLIPWAY_SECRET_KEY_FILE, not both.");
  return { secretKey, secretKeyFile };
}

function readAddress(read: Read): Pick<Config, "publicUrl" | "insecureLan"> {
  return {
    publicUrl: read("publicUrl", origin, "an http or https address without a path"),
    insecureLan: read("insecureLan", z.enum(["0", "1"]), "0 or 1") === "1",
  };
}

const HOSTS = "a comma-separated list of host or host:port";

/**
 * @throws SlipwayError `config_invalid` with one sentence that names the setting and what it must
 * be.
 */
export function readConfig(env: Env, flags: Flags = {}): Config {
  const warnings = findUnknownVariables(env);
  const read = reader(env, flags, warnings);
  const sandbox = read("sandbox", z.enum(SANDBOX_KINDS), `one of ${SANDBOX_KINDS.join(", ")}`);
  const git = readGitSettings(read);
  const anthropicApiKey = read("anthropicApiKey", z.string().regex(/^[\x21-\x7e]+$/), "printable ASCII without spaces");
  return {
    host: read("host", z.string().refine(isHost), "an address or a host name without a port") ?? DEFAULTS.host,
    port: read("port", whole(0, 65_535), "a whole number from 0 to 65535") ?? Number(DEFAULTS.port),
    dataDir: read("dataDir", z.string(), "a folder") ?? DEFAULTS.dataDir,
    sandbox: sandbox ?? DEFAULTS.sandbox,
    sandboxChosen: sandbox !== null,
    maxConcurrent:
      read("maxConcurrent", whole(1, 1_000), "a whole number from 1 to 1000") ?? Number(DEFAULTS.maxConcurrent),
    workerTools: read("workerTools", z.enum(["full", "slim"]), "full or slim") ?? DEFAULTS.workerTools,
    warm: read("warm", whole(0, 16), "a whole number from 0 to 16") ?? Number(DEFAULTS.warm),
    ...readLimits(read),
    minFreeMb: read("minFreeMb", whole(0, 100_000_000), "a whole number of megabytes") ?? DISK.minFreeMb,
    transport: read("transport", z.enum(["auto", "socket", "tunnel"]), "one of auto, socket, tunnel") ?? "auto",
    userLimit: read("userLimit", whole(1, 1_000), "a whole number from 1 to 1000"),
    agent: readAgent(read, anthropicApiKey !== null),
    anthropicApiKey,
    programs: readAgentPrograms(
      read("acpCommands", z.string().max(40_000), "a list of name=command") ?? "",
      read("agentsFile", z.string(), "a file"),
    ),
    anthropicBaseUrl: trimSlash(
      read("anthropicBaseUrl", webUrl, "an http or https address without a query") ?? ANTHROPIC,
    ),
    ...readModels(read, anthropicApiKey !== null),
    compactAt: read("compactAt", whole(10_000, 10_000_000), "a whole number of tokens from 10000 to 10000000"),
    modelBetas: read("modelBetas", list(z.string().regex(/^[\w*-]{1,100}$/)), "a comma-separated list of betas") ?? [],
    userDayUsd: read("userDayUsd", dollars, "an amount of US dollars such as 20"),
    threadUsd: read("threadUsd", budgetDollars, "US dollars above 0, at most 10000"),
    dayUsd: read("dayUsd", dollars, "an amount of US dollars such as 100"),
    pricesFile: read("pricesFile", z.string(), "a file"),
    egress: readEgress(read),
    setupEgress: readSetupEgress(read, readEgress(read)),
    trustedEgressHosts:
      read(
        "trustedEgressHosts",
        list(z.string().refine((text) => parseEndpoint(text) !== null)),
        "a comma-separated list of host:port",
      ) ?? [],
    trustedPushHosts: read("trustedPushHosts", list(hostAndPort), HOSTS) ?? [],
    ...git,
    ...readBackupSettings(read, warnings),
    ...readBounds(read),
    images: read("images", list(imageRule), IMAGES) ?? [],
    providers: readProviderSettings(env, git),
    admin: readAdmin(read),
    ...readAddress(read),
    ...readSecretKey(read),
    logLevel: read("logLevel", z.enum(LOG_LEVELS), `one of ${LOG_LEVELS.join(", ")}`) ?? "info",
    policy: readPolicy(env),
    allowedOrigins: read("allowedOrigins", list(allowedOrigin), ORIGINS) ?? [],
    ...readRetention(read),
    warnings,
  };
}

function isHost(text: string): boolean {
  return hostName.test(text) || /^[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:.]*$/i.test(text);
}
