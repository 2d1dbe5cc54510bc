/** The settings of a server: names, flags, defaults and help. */
import { QUOTA_OPTIONS } from "./settings/quota-options.ts";

export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;

export interface Setting {
  readonly env: string;
  /** Long flag without dashes. */
  readonly flag: string;
  readonly argument: string;
  readonly help: string;
  /** Its value is never repeated in a message. */
  readonly secret?: true;
  /** The name of an earlier version, accepted with a warning until the next minor version. */
  readonly formerly?: { readonly env: string; readonly flag: string };
}

export const DEFAULTS = {
  host: "127.0.0.1",
  port: "7080",
  dataDir: ".slipway",
  sandbox: "docker",
  maxConcurrent: "4",
  warm: "1",
  workerTools: "full",
  model: "claude-sonnet-5-5",
  reviewModel: "claude-haiku-5-5",
} as const;
export const DISK = { mode: "auto", mb: 4_096, maxMb: 16_384, minFreeMb: 2_048 } as const;
/** Of pull requests, and of people's log-in with GitHub. */
export const GITHUB = { url: "https://github.com", apiUrl: "https://api.github.com" } as const;
/** Public forges that need no setting. */
export const FORGES = "gitlab=https://gitlab.com,forgejo=https://codeberg.org";
export const ANTHROPIC = "https://api.anthropic.com";

/**
 * Every setting that people may make; the flags of `serve` come from here. SLIPWAY_POLICY is not
 * among them: it is for tests.
 */
export const SETTINGS = {
  host: { env: "SLIPWAY_HOST", flag: "host", argument: "address", help: `address to listen on (${DEFAULTS.host})` },
  port: {
    env: "SLIPWAY_PORT",
    flag: "port",
    argument: "number",
    help: `port to listen on, 0 = any (${DEFAULTS.port})`,
  },
  dataDir: {
    env: "SLIPWAY_DATA_DIR",
    flag: "data-dir",
    argument: "folder",
    help: `where everything is kept (${DEFAULTS.dataDir})`,
  },
  sandbox: {
    env: "SLIPWAY_SANDBOX",
    flag: "sandbox",
    argument: "kind",
    help: "docker, process (not isolated) or simulated (docker)",
  },
  maxConcurrent: {
    env: "SLIPWAY_MAX_CONCURRENT",
    flag: "max-concurrent",
    argument: "number",
    help: "tasks that run at once (4)",
  },
  workerTools: {
    env: "SLIPWAY_WORKER_TOOLS",
    flag: "worker-tools",
    argument: "full|slim",
    help: "tools in the image of tasks that choose none (full)",
  },
  warm: {
    env: "SLIPWAY_WARM",
    flag: "warm",
    argument: "number",
    help: "workers that are started ahead, docker only, 0 = none (1)",
  },
  disk: {
    env: "SLIPWAY_DISK",
    flag: "disk",
    argument: "kind",
    help: "what bounds workspaces, docker only: auto, loop, watch, tmpfs (auto)",
  },
  diskMb: {
    env: "SLIPWAY_DISK_MB",
    flag: "disk-mb",
    argument: "megabytes",
    help: `workspace of tasks that name no size (${DISK.mb})`,
  },
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
  maxCpus: {
    env: "SLIPWAY_MAX_CPUS",
    flag: "max-cpus",
    argument: "number",
    help: "most cores of a task (the machine's)",
  },
  minFreeMb: {
    env: "SLIPWAY_MIN_FREE_MB",
    flag: "min-free-mb",
    argument: "megabytes",
    help: `with less free disk space no task is claimed (${DISK.minFreeMb})`,
  },
  maxRepoMb: {
    env: "SLIPWAY_MAX_REPO_MB",
    flag: "max-repo-mb",
    argument: "megabytes",
    help: "largest pack that is fetched from a repository (10240)",
  },
  gitMemoryMb: {
    env: "SLIPWAY_GIT_MEMORY_MB",
    flag: "git-memory-mb",
    argument: "megabytes",
    help: "address space of one git that fetches or pushes (2048)",
  },
  addressConnections: {
    env: "SLIPWAY_ADDRESS_CONNECTIONS",
    flag: "address-connections",
    argument: "number",
    help: "connections that one address may hold, 0 = no limit (256; no limit behind a trusted proxy)",
  },
  transport: {
    env: "SLIPWAY_TRANSPORT",
    flag: "transport",
    argument: "kind",
    help: "how containers reach the server: auto, socket (mounted), tunnel (through the engine) (auto)",
    formerly: { env: "SLIPWAY_DOOR", flag: "door" },
  },
  userLimit: {
    env: "SLIPWAY_USER_LIMIT",
    flag: "user-limit",
    argument: "number",
    help: "slots that one user may hold (no limit)",
  },
  agent: {
    env: "SLIPWAY_AGENT",
    flag: "agent",
    argument: "name",
    help: "agent of tasks that name none (anthropic with a key, else scripted)",
  },
  acpCommands: {
    env: "SLIPWAY_ACP_COMMANDS",
    flag: "acp-commands",
    argument: "list",
    help: "agent programs in the worker's image that speak the Agent Client Protocol: name=command, separated by ;",
  },
  agentsFile: {
    env: "SLIPWAY_AGENTS_FILE",
    flag: "agents-file",
    argument: "file",
    help: "JSON file with agent programs by name, those that only have a command line included (docs/agents.md)",
  },
  anthropicApiKey: {
    env: "ANTHROPIC_API_KEY",
    flag: "anthropic-api-key",
    argument: "key",
    help: "model key; better in the environment",
    secret: true,
  },
  anthropicBaseUrl: {
    env: "ANTHROPIC_BASE_URL",
    flag: "anthropic-base-url",
    argument: "url",
    help: `model endpoint (${ANTHROPIC})`,
  },
  model: {
    env: "SLIPWAY_MODEL",
    flag: "model",
    argument: "name",
    help: `model of tasks that name none (${DEFAULTS.model}, or the first in the list)`,
  },
  models: {
    env: "SLIPWAY_MODELS",
    flag: "models",
    argument: "list",
    help: "models that tasks may use; name or beginning* (claude-*)",
  },
  fallbackModel: {
    env: "SLIPWAY_FALLBACK_MODEL",
    flag: "fallback-model",
    argument: "name",
    help: "model that continues a task when its own declined (none: the task fails)",
  },
  reviewModel: {
    env: "SLIPWAY_REVIEW_MODEL",
    flag: "review-model",
    argument: "name",
    help: `model that reviews changes of the built-in agent (${DEFAULTS.reviewModel}, where it may be used)`,
  },
  review: {
    env: "SLIPWAY_REVIEW",
    flag: "review",
    argument: "when",
    help: "on_request or always (on_request)",
  },
  compactAt: {
    env: "SLIPWAY_COMPACT_AT",
    flag: "compact-at",
    argument: "tokens",
    help: "size at which the built-in agent summarizes its conversation (60% of the window, at most 150000)",
  },
  modelBetas: {
    env: "SLIPWAY_MODEL_BETAS",
    flag: "model-betas",
    argument: "list",
    help: "further betas of the model API that programs may ask for; name or beginning* (none)",
  },
  userDayUsd: {
    env: "SLIPWAY_USER_DAY_USD",
    flag: "user-day-usd",
    argument: "amount",
    help: "model budget of one user per day (no limit)",
  },
  ...QUOTA_OPTIONS,
  dayUsd: {
    env: "SLIPWAY_DAY_USD",
    flag: "day-usd",
    argument: "amount",
    help: "model budget of all users per day (no limit)",
  },
  pricesFile: {
    env: "SLIPWAY_PRICES",
    flag: "prices",
    argument: "file",
    help: "JSON table of model prices (built in)",
  },
  egress: {
    env: "SLIPWAY_EGRESS",
    flag: "egress",
    argument: "policy",
    help: "what tasks that name no policy may reach: none, allowlist, open (none)",
  },
  egressOpen: {
    env: "SLIPWAY_EGRESS_OPEN",
    flag: "egress-open",
    argument: "0|1",
    help: "1 = tasks may ask for egress open (0)",
  },
  setupEgress: {
    env: "SLIPWAY_SETUP_EGRESS",
    flag: "setup-egress",
    argument: "policy",
    help: "what the setup of a repository may reach before the agent begins: none, allowlist, open (allowlist)",
  },
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
  trustedPushHosts: {
    env: "SLIPWAY_TRUSTED_PUSH_HOSTS",
    flag: "trusted-push-hosts",
    argument: "list",
    help: "host[:port],... of push services that may be reached by plain http or at private addresses",
  },
  githubUrl: {
    env: "SLIPWAY_GITHUB_URL",
    flag: "github-url",
    argument: "url",
    help: `GitHub, or a GitHub Enterprise Server (${GITHUB.url})`,
  },
  githubApiUrl: {
    env: "SLIPWAY_GITHUB_API_URL",
    flag: "github-api-url",
    argument: "url",
    help: `its API (${GITHUB.apiUrl}; /api/v3 on an Enterprise Server)`,
  },
  forges: {
    env: "SLIPWAY_FORGES",
    flag: "forges",
    argument: "list",
    help: "further forges for pull requests: github, gitlab, gitea or forgejo=address,... (gitlab.com and codeberg.org)",
  },
  pullRequest: {
    env: "SLIPWAY_PULL_REQUEST",
    flag: "pull-request",
    argument: "mode",
    help: "pull request of tasks that do not say: none, draft, ready (none)",
  },
  guard: {
    env: "SLIPWAY_GUARD",
    flag: "guard",
    argument: "kinds",
    help: "what holds a push back until a person decides; none = no guard (all but lock_file)",
  },
  guardFileMb: {
    env: "SLIPWAY_GUARD_FILE_MB",
    flag: "guard-file-mb",
    argument: "megabytes",
    help: "largest new file that is pushed without a question (10)",
  },
  guardTotalMb: {
    env: "SLIPWAY_GUARD_TOTAL_MB",
    flag: "guard-total-mb",
    argument: "megabytes",
    help: "most of all new files together (50)",
  },
  gitAuthor: {
    env: "SLIPWAY_GIT_AUTHOR",
    flag: "git-author",
    argument: "identity",
    help: '"Name <e-mail>" of commits, or "person": who asked for the work (Slipway, the person as co-author)',
  },
  images: {
    env: "SLIPWAY_IMAGES",
    flag: "images",
    argument: "list",
    help: "images that tasks may choose: names, or beginnings that end in * (none)",
  },
  adminEmail: { env: "SLIPWAY_ADMIN_EMAIL", flag: "admin-email", argument: "email", help: "first admin, made at boot" },
  adminPassword: {
    env: "SLIPWAY_ADMIN_PASSWORD",
    flag: "admin-password",
    argument: "password",
    help: "its password; better in the environment",
    secret: true,
  },
  publicUrl: {
    env: "SLIPWAY_PUBLIC_URL",
    flag: "public-url",
    argument: "url",
    help: "address under which people reach the server",
  },
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
    help: "further origins whose pages may call the API and open the live stream, also capacitor://localhost",
  },
  retentionDays: {
    env: "SLIPWAY_RETENTION_DAYS",
    flag: "retention-days",
    argument: "days",
    help: "repositories and artifacts of settled tasks are kept this long (30)",
  },
  auditDays: { env: "SLIPWAY_AUDIT_DAYS", flag: "audit-days", argument: "days", help: "age of audit rows (400)" },
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
  attachmentMb: {
    env: "SLIPWAY_ATTACHMENT_MB",
    flag: "attachment-mb",
    argument: "megabytes",
    help: "largest file that people may attach (25)",
  },
  userAttachmentsMb: {
    env: "SLIPWAY_USER_ATTACHMENTS_MB",
    flag: "user-attachments-mb",
    argument: "megabytes",
    help: "what the attachments of one person may take together (1000)",
  },
  backupEvery: {
    env: "SLIPWAY_BACKUP_EVERY",
    flag: "backup-every",
    argument: "hours",
    help: "a backup is taken this often, into --backup-to (never)",
  },
  backupTo: {
    env: "SLIPWAY_BACKUP_TO",
    flag: "backup-to",
    argument: "folder",
    help: "where scheduled backups go: another disk",
  },
  backupKeep: {
    env: "SLIPWAY_BACKUP_KEEP",
    flag: "backup-keep",
    argument: "number",
    help: "how many scheduled backups are kept (7)",
  },
  trustProxy: {
    env: "SLIPWAY_TRUST_PROXY",
    flag: "trust-proxy",
    argument: "hops",
    help: "reverse proxies in front of the server (0)",
  },
} as const satisfies Record<string, Setting>;

export type SettingName = keyof typeof SETTINGS;
