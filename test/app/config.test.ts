import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DEFAULT_GUARD } from "../../src/core/values/push-guard.ts";
import { describe, expect, it } from "vitest";
import { findUnknownVariables } from "../../src/app/settings/unknown-variables.ts";
import { readSource, ROOT, sourceFiles } from "../project/source-files.ts";
import { readConfig } from "../../src/app/config.ts";
import { SETTINGS } from "../../src/app/options.ts";
import type { Setting } from "../../src/app/settings/defaults.ts";
import { assertMayListen, isLoopback } from "../../src/app/listening.ts";
import { SlipwayError } from "../../src/core/error.ts";

function complaint(env: Record<string, string>, flags: Parameters<typeof readConfig>[1] = {}): string {
  try {
    readConfig(env, flags);
  } catch (error) {
    expect(error).toBeInstanceOf(SlipwayError);
    expect((error as SlipwayError).code).toBe("config_invalid");
    return (error as SlipwayError).message;
  }
  throw new Error("it was accepted");
}

describe("readConfig", () => {
  it("egress open is asked for twice", () => {
    expect(complaint({ SLIPWAY_EGRESS: "open" })).toBe("SLIPWAY_EGRESS=open needs SLIPWAY_EGRESS_OPEN=1.");
    expect(complaint({ SLIPWAY_SETUP_EGRESS: "open" })).toBe("SLIPWAY_SETUP_EGRESS=open needs SLIPWAY_EGRESS_OPEN=1.");
    expect(readConfig({ SLIPWAY_EGRESS: "open", SLIPWAY_EGRESS_OPEN: "1" }).egress).toEqual([
      "open",
      "none",
      "allowlist",
    ]);
  });

  it("agent programs have names of their own", () => {
    const acp = (text: string) => readConfig({ SLIPWAY_ACP_COMMANDS: text }).programs;
    expect(acp("claude=claude-agent-acp; codex=codex-acp -c a=b\n")).toEqual({
      claude: { protocol: "acp", command: "claude-agent-acp" },
      codex: { protocol: "acp", command: "codex-acp -c a=b" },
    });
    for (const bad of ["claude", "=x", "Claude=x", "anthropic=x", "acp=x", "a=x;a=y"])
      expect(complaint({ SLIPWAY_ACP_COMMANDS: bad })).toContain("is not name=command");
  });

  it("a file declares further programs, each of them whole", () => {
    const dir = mkdtempSync(join(tmpdir(), "slipway-config-"));
    const file = join(dir, "agents.json");
    const read = (programs: unknown, env: Record<string, string> = {}) => {
      writeFileSync(file, JSON.stringify(programs));
      return { SLIPWAY_AGENTS_FILE: file, ...env };
    };
    try {
      const programs = {
        aider: { protocol: "exec", command: 'aider --message-file "$PROMPT_FILE"' },
        claude: { protocol: "acp", command: "claude-agent-acp", mode: "plan", state: [".claude/projects"] },
      };
      expect(readConfig(read(programs, { SLIPWAY_ACP_COMMANDS: "codex=codex-acp" })).programs).toEqual({
        codex: { protocol: "acp", command: "codex-acp" },
        ...programs,
      });
      const { aider } = programs;
      expect(complaint(read({ aider }, { SLIPWAY_ACP_COMMANDS: "aider=x" }))).toContain('"aider" is not a name');
      expect(complaint(read({ anthropic: aider }))).toContain('"anthropic" is not a name');
      expect(complaint(read({ aider: { ...aider, output: "xml" } }))).toContain("aider.output");
      expect(complaint(read({ aider: { ...aider, state: [] } }))).toContain("aider");
      expect(complaint(read({ a: { protocol: "acp", command: "a", state: ["../x"] } }))).toContain("home directory");
      expect(complaint({ SLIPWAY_AGENTS_FILE: join(dir, "none.json") })).toContain("no such file");
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  it("needs nothing", () => {
    expect(readConfig({})).toEqual({
      host: "127.0.0.1",
      port: 7080,
      dataDir: ".slipway",
      sandbox: "docker",
      sandboxChosen: false,
      maxConcurrent: 4,
      warm: 1,
      workerTools: "full",
      disk: "auto",
      diskMb: 4_096,
      maxDiskMb: 16_384,
      maxMemoryMb: null,
      maxCpus: null,
      minFreeMb: 2_048,
      diskOvercommit: 1,
      maxRepoMb: 10_240,
      gitMemoryMb: 2_048,
      addressConnections: 256,
      attachmentMb: 25,
      userAttachmentsMb: 1_000,
      setupCacheMb: 10_240,
      setupCacheDays: 14,
      egressMb: 10_240,
      transport: "auto",
      userLimit: null,
      agent: "scripted",
      anthropicApiKey: null,
      programs: {},
      anthropicBaseUrl: "https://api.anthropic.com",
      model: null,
      models: ["claude-*"],
      fallbackModel: null,
      reviewModel: null,
      review: "on_request",
      compactAt: null,
      modelBetas: [],
      gitAuthor: null,
      signingKeyFile: null,
      guard: DEFAULT_GUARD,
      userDayUsd: null,
      threadUsd: null,
      quotas: {
        tasksPerMinute: 60,
        tasksPerDay: 1_000,
        openTasks: 200,
        searchesPerMinute: 120,
        storageMb: 20_480,
        monthUsd: null,
      },
      dayUsd: null,
      pricesFile: null,
      egress: ["none", "allowlist"],
      setupEgress: "allowlist",
      trustedEgressHosts: [],
      trustedRepoHosts: [],
      trustedPushHosts: [],
      githubUrl: "https://github.com",
      githubApiUrl: "https://api.github.com",
      forges: [
        { kind: "gitlab", url: "https://gitlab.com", apiUrl: "https://gitlab.com/api/v4" },
        { kind: "forgejo", url: "https://codeberg.org", apiUrl: "https://codeberg.org/api/v1" },
      ],
      pullRequest: "none",
      images: [],
      providers: [],
      admin: null,
      publicUrl: null,
      insecureLan: false,
      secretKey: null,
      secretKeyFile: null,
      retentionDays: 30,
      auditDays: 400,
      tasksExpireDays: null,
      mirrorDays: 30,
      artifactsTo: null,
      s3: {
        endpoint: null,
        region: "us-east-1",
        pathStyle: false,
        keyId: null,
        secret: null,
        secretFile: null,
        sessionToken: null,
      },
      salvageMb: 512,
      warnings: [],
      logLevel: "info",
      policy: {},
      allowedOrigins: [],
      trustProxy: 0,
      backup: null,
    });
  });

  it("reads every variable", () => {
    const env = {
      SLIPWAY_HOST: "0.0.0.0",
      SLIPWAY_PORT: "0",
      SLIPWAY_DATA_DIR: "/srv/slipway",
      SLIPWAY_SANDBOX: "process",
      SLIPWAY_MAX_CONCURRENT: "12",
      SLIPWAY_WARM: "3",
      SLIPWAY_WORKER_TOOLS: "slim",
      SLIPWAY_TRANSPORT: "tunnel",
      SLIPWAY_USER_LIMIT: "2",
      SLIPWAY_AGENT: "anthropic",
      ANTHROPIC_API_KEY: "sk-1",
      SLIPWAY_ACP_COMMANDS: "claude=claude-agent-acp",
      ANTHROPIC_BASE_URL: "http://127.0.0.1:9/v0/",
      SLIPWAY_MODEL: "claude-haiku-5-5",
      SLIPWAY_TRUSTED_REPO_HOSTS: "Git.example.org, 10.0.0.2:3000,[::1]:80,",
      SLIPWAY_TRUSTED_PUSH_HOSTS: "push.lan:8080",
      SLIPWAY_GITHUB_URL: "http://git.example.org/",
      SLIPWAY_GITHUB_API_URL: "https://api.git.example.org/",
      SLIPWAY_FORGES: "github=https://github.com/, gitea=http://10.0.0.2:3000/git",
      SLIPWAY_PULL_REQUEST: "draft",
      SLIPWAY_IMAGES: "node:24, ghcr.io/acme/*",
      SLIPWAY_ADMIN_EMAIL: "a@example.org",
      SLIPWAY_ADMIN_PASSWORD: "0123456789",
      SLIPWAY_PUBLIC_URL: "https://slipway.example.org/",
      SLIPWAY_INSECURE_LAN: "1",
      SLIPWAY_SECRET_KEY: "k".repeat(32),
      SLIPWAY_RETENTION_DAYS: "7",
      SLIPWAY_AUDIT_DAYS: "800",
      SLIPWAY_TASKS_EXPIRE_DAYS: "365",
      SLIPWAY_MIRROR_DAYS: "90",
      SLIPWAY_SALVAGE_MB: "64",
      SLIPWAY_ARTIFACTS_TO: "s3://bucket/artifacts/",
      SLIPWAY_S3_ENDPOINT: "https://s3.example.org",
      SLIPWAY_S3_REGION: "eu-central-1",
      SLIPWAY_S3_PATH_STYLE: "1",
      SLIPWAY_S3_ACCESS_KEY_ID: "key",
      SLIPWAY_S3_SECRET_ACCESS_KEY: "s3-secret",
      SLIPWAY_S3_SESSION_TOKEN: "session",
      SLIPWAY_BACKUP_EVERY: "12",
      SLIPWAY_BACKUP_TO: "/mnt/backups",
      SLIPWAY_BACKUP_KEEP: "3",
      SLIPWAY_LOG_LEVEL: "debug",
      SLIPWAY_POLICY: '{"graceMs":500}',
      SLIPWAY_ALLOWED_ORIGINS: "https://one.example.org,http://localhost:5173,capacitor://localhost",
      SLIPWAY_TRUST_PROXY: "1",
      SLIPWAY_MODELS: "claude-opus-5-5, claude-haiku-*",
      SLIPWAY_FALLBACK_MODEL: "claude-opus-5-5",
      SLIPWAY_REVIEW: "always",
      SLIPWAY_REVIEW_MODEL: "claude-haiku-5-5",
      SLIPWAY_COMPACT_AT: "600000",
      SLIPWAY_MODEL_BETAS: "files-api-2025-04-14, new-*",
      SLIPWAY_GIT_AUTHOR: "Ann Lee <ann@example.org>",
      SLIPWAY_SIGNING_KEY_FILE: "/keys/sign",
      SLIPWAY_GUARD: "secret,large_file",
      SLIPWAY_GUARD_FILE_MB: "5",
      SLIPWAY_GUARD_TOTAL_MB: "20",
      SLIPWAY_USER_DAY_USD: "5",
      SLIPWAY_THREAD_USD: "12.5",
      SLIPWAY_USER_MONTH_USD: "50.5",
      SLIPWAY_USER_TASKS_PER_MINUTE: "10",
      SLIPWAY_USER_TASKS_PER_DAY: "50",
      SLIPWAY_USER_OPEN_TASKS: "0",
      SLIPWAY_USER_SEARCHES_PER_MINUTE: "30",
      SLIPWAY_USER_STORAGE_MB: "500",
      SLIPWAY_DAY_USD: "20.5",
      SLIPWAY_EGRESS: "allowlist",
      SLIPWAY_EGRESS_OPEN: "1",
      SLIPWAY_SETUP_EGRESS: "open",
      SLIPWAY_TRUSTED_EGRESS_HOSTS: "registry.example:4873, 10.0.0.5:443",
      SLIPWAY_PRICES: "/etc/slipway/prices.json",
      SLIPWAY_DISK: "watch",
      SLIPWAY_DISK_MB: "512",
      SLIPWAY_DISK_OVERCOMMIT: "1.5",
      SLIPWAY_MAX_DISK_MB: "2048",
      SLIPWAY_MAX_MEMORY_MB: "1024",
      SLIPWAY_MAX_CPUS: "3",
      SLIPWAY_MIN_FREE_MB: "0",
      SLIPWAY_MAX_REPO_MB: "100",
      SLIPWAY_GIT_MEMORY_MB: "512",
      SLIPWAY_ADDRESS_CONNECTIONS: "0",
      SLIPWAY_ATTACHMENT_MB: "10",
      SLIPWAY_USER_ATTACHMENTS_MB: "200",
      SLIPWAY_SETUP_CACHE_MB: "0",
      SLIPWAY_SETUP_CACHE_DAYS: "3",
      SLIPWAY_EGRESS_MB: "0",
    };
    expect(readConfig(env)).toEqual({
      host: "0.0.0.0",
      port: 0,
      dataDir: "/srv/slipway",
      sandbox: "process",
      sandboxChosen: true,
      maxConcurrent: 12,
      warm: 3,
      workerTools: "slim",
      disk: "watch",
      diskMb: 512,
      maxDiskMb: 2_048,
      maxMemoryMb: 1_024,
      maxCpus: 3,
      minFreeMb: 0,
      diskOvercommit: 1.5,
      maxRepoMb: 100,
      gitMemoryMb: 512,
      addressConnections: null,
      attachmentMb: 10,
      userAttachmentsMb: 200,
      setupCacheMb: 0,
      setupCacheDays: 3,
      egressMb: null,
      transport: "tunnel",
      userLimit: 2,
      agent: "anthropic",
      anthropicApiKey: "sk-1",
      programs: { claude: { protocol: "acp", command: "claude-agent-acp" } },
      anthropicBaseUrl: "http://127.0.0.1:9/v0",
      model: "claude-haiku-5-5",
      models: ["claude-opus-5-5", "claude-haiku-*"],
      fallbackModel: "claude-opus-5-5",
      reviewModel: "claude-haiku-5-5",
      review: "always",
      compactAt: 600_000,
      modelBetas: ["files-api-2025-04-14", "new-*"],
      gitAuthor: { name: "Ann Lee", email: "ann@example.org" },
      signingKeyFile: "/keys/sign",
      guard: { fileBytes: 5 * 2 ** 20, totalBytes: 20 * 2 ** 20, asks: ["secret", "large_file"] },
      userDayUsd: 5,
      threadUsd: 12.5,
      quotas: {
        tasksPerMinute: 10,
        tasksPerDay: 50,
        openTasks: null,
        searchesPerMinute: 30,
        storageMb: 500,
        monthUsd: 50.5,
      },
      dayUsd: 20.5,
      pricesFile: "/etc/slipway/prices.json",
      egress: ["allowlist", "none", "open"],
      setupEgress: "open",
      trustedEgressHosts: ["registry.example:4873", "10.0.0.5:443"],
      trustedRepoHosts: ["git.example.org", "10.0.0.2:3000", "[::1]:80"],
      trustedPushHosts: ["push.lan:8080"],
      githubUrl: "http://git.example.org",
      githubApiUrl: "https://api.git.example.org",
      forges: [
        { kind: "github", url: "https://github.com", apiUrl: "https://api.github.com" },
        { kind: "gitea", url: "http://10.0.0.2:3000/git", apiUrl: "http://10.0.0.2:3000/git/api/v1" },
      ],
      pullRequest: "draft",
      images: ["docker.io/library/node:24", "ghcr.io/acme/*"],
      providers: [],
      admin: { email: "a@example.org", password: "0123456789" },
      publicUrl: "https://slipway.example.org",
      insecureLan: true,
      secretKey: "k".repeat(32),
      secretKeyFile: null,
      retentionDays: 7,
      auditDays: 800,
      tasksExpireDays: 365,
      mirrorDays: 90,
      artifactsTo: "s3://bucket/artifacts",
      s3: {
        endpoint: "https://s3.example.org",
        region: "eu-central-1",
        pathStyle: true,
        keyId: "key",
        secret: "s3-secret",
        secretFile: null,
        sessionToken: "session",
      },
      salvageMb: 64,
      backup: { everyMs: 12 * 3_600_000, to: "/mnt/backups", keep: 3 },
      warnings: [],
      logLevel: "debug",
      policy: { graceMs: 500 },
      allowedOrigins: ["https://one.example.org", "http://localhost:5173", "capacitor://localhost"],
      trustProxy: 1,
    });
    const read = Object.values<Setting>(SETTINGS).map((setting) => setting.env);
    // These have tests of their own.
    const apart = ["SLIPWAY_AGENTS_FILE", "SLIPWAY_SECRET_KEY_FILE", "SLIPWAY_S3_SECRET_ACCESS_KEY_FILE"];
    const others = read.filter((name) => !apart.includes(name));
    expect([...others, "SLIPWAY_POLICY"].toSorted()).toEqual(Object.keys(env).toSorted());
  });

  it("[H16] takes the secret key from one of its two settings", () => {
    const file = { SLIPWAY_SECRET_KEY_FILE: "/run/secrets/slipway" };
    expect(readConfig(file)).toMatchObject({ secretKey: null, secretKeyFile: "/run/secrets/slipway" });
    const both = { ...file, SLIPWAY_SECRET_KEY: "k".repeat(32) };
    expect(() => readConfig(both)).toThrow("Set SLIPWAY_SECRET_KEY or SLIPWAY_SECRET_KEY_FILE, not both.");
  });

  it("names the nearest setting for a variable that is none", () => {
    const { warnings } = readConfig({ SLIPWAY_MAXCONCURRENT: "9", SLIPWAY_COFFEE_MACHINE: "1", SLIPWAY_URL: "" });
    expect(warnings).toEqual([
      "SLIPWAY_COFFEE_MACHINE is no setting, and is ignored. `slipway serve --help` lists the settings.",
      "SLIPWAY_MAXCONCURRENT is no setting, and is ignored. Did you mean SLIPWAY_MAX_CONCURRENT?",
    ]);
  });

  it("knows every variable that the code and the documents name", () => {
    const docs = readdirSync(join(ROOT, "docs")).filter((name) => name.endsWith(".md"));
    const files = [
      ...sourceFiles(["src"]),
      ...docs.map((name) => `docs/${name}`),
      "docs/deploy/README.md",
      "README.md",
    ];
    const named = files.flatMap((file) =>
      [...readSource(file).matchAll(/["'`[]SLIPWAY_[A-Z_]+(?=["'`\]])/g)].map(([name]) => name.slice(1)),
    );
    const ofWorkers = /^SLIPWAY_(?:SOCKET|WORKSPACE|STATE|BOX|ATTEMPT|CWD|ASSIGNMENT|EXTRA|IMAGE_ENV)$/;
    const env = Object.fromEntries(
      [...new Set(named)].filter((name) => !ofWorkers.test(name)).map((name) => [name, "1"]),
    );
    expect(Object.keys(env).length).toBeGreaterThan(50);
    expect(findUnknownVariables(env)).toEqual([]);
  });

  it("keeps the size of a workspace within its maximum, whichever of the two is given", () => {
    expect(readConfig({ SLIPWAY_DISK_MB: "20000" })).toMatchObject({ diskMb: 20_000, maxDiskMb: 20_000 });
    expect(readConfig({ SLIPWAY_MAX_DISK_MB: "1000" })).toMatchObject({ diskMb: 1_000, maxDiskMb: 1_000 });
    expect(complaint({ SLIPWAY_DISK_MB: "1001", SLIPWAY_MAX_DISK_MB: "1000" })).toBe(
      "SLIPWAY_DISK_MB must not be larger than SLIPWAY_MAX_DISK_MB.",
    );
    expect(complaint({ SLIPWAY_DISK_MB: "63" })).toContain("from 64 to 1048576");
    expect(complaint({ SLIPWAY_DISK: "big" })).toContain("auto, loop, watch, tmpfs");
  });

  it("puts a flag before its variable, and takes an empty value for none", () => {
    expect(readConfig({ SLIPWAY_PORT: "1", SLIPWAY_HOST: "" }, { port: "2" })).toMatchObject({
      port: 2,
      host: "127.0.0.1",
    });
    expect(complaint({ SLIPWAY_PORT: "1" }, { port: "x" })).toBe(
      '--port must be a whole number from 0 to 65535, not "x".',
    );
  });

  it("uses the model when there is a key, and refuses to without one", () => {
    expect(readConfig({ ANTHROPIC_API_KEY: "sk-1" }).agent).toBe("anthropic");
    expect(readConfig({ ANTHROPIC_API_KEY: "sk-1", SLIPWAY_AGENT: "scripted" }).agent).toBe("scripted");
    expect(complaint({ SLIPWAY_AGENT: "anthropic" })).toContain("ANTHROPIC_API_KEY");
  });

  it("with a key there is always a model that may be used", () => {
    const key = { ANTHROPIC_API_KEY: "sk-1" };
    expect(readConfig(key).model).toBe("claude-sonnet-5-5");
    expect(readConfig({ ...key, SLIPWAY_MODELS: "claude-opus-*, claude-haiku-5-5" }).model).toBe("claude-haiku-5-5");
    expect(complaint({ ...key, SLIPWAY_MODELS: "claude-opus-*" })).toContain("SLIPWAY_MODEL must");
    expect(complaint({ SLIPWAY_MODEL: "gpt-5" })).toContain("SLIPWAY_MODELS does not list");
    expect(complaint({ SLIPWAY_FALLBACK_MODEL: "gpt-5" })).toContain('SLIPWAY_FALLBACK_MODEL names "gpt-5"');
  });

  it.each([
    ["SLIPWAY_PORT", "65536"],
    ["SLIPWAY_PORT", "-1"],
    ["SLIPWAY_PORT", "1e3"],
    ["SLIPWAY_HOST", "http://x"],
    ["SLIPWAY_HOST", "127.0.0.1:80"],
    ["SLIPWAY_SANDBOX", "Docker"],
    ["SLIPWAY_MAX_CONCURRENT", "0"],
    ["SLIPWAY_WARM", "17"],
    ["SLIPWAY_TRANSPORT", "open"],
    ["SLIPWAY_WARM", "-1"],
    ["SLIPWAY_USER_LIMIT", "none"],
    ["SLIPWAY_AGENT", "../x"],
    ["ANTHROPIC_BASE_URL", "api.anthropic.com"],
    ["ANTHROPIC_BASE_URL", "https://u:p@host"],
    ["SLIPWAY_MODEL", "a b"],
    ["SLIPWAY_TRUSTED_REPO_HOSTS", "https://git.example.org"],
    ["SLIPWAY_TRUSTED_REPO_HOSTS", "host:99999"],
    ["SLIPWAY_PUBLIC_URL", "https://x/path"],
    ["SLIPWAY_LOG_LEVEL", "loud"],
    ["SLIPWAY_POLICY", "[1]"],
    ["SLIPWAY_POLICY", '{"graceMs":-1}'],
    ["SLIPWAY_POLICY", '{"grace":1}'],
    ["SLIPWAY_ALLOWED_ORIGINS", "*"],
    ["SLIPWAY_ALLOWED_ORIGINS", "capacitor://elsewhere"],
    ["SLIPWAY_TRUST_PROXY", "true"],
    ["SLIPWAY_EGRESS", "all"],
    ["SLIPWAY_EGRESS_OPEN", "yes"],
    ["SLIPWAY_SETUP_EGRESS", "all"],
    ["SLIPWAY_TRUSTED_EGRESS_HOSTS", "*.example.com:443"],
    ["SLIPWAY_MODELS", "two words"],
    ["SLIPWAY_MODEL_BETAS", "two words"],
    ["SLIPWAY_DAY_USD", "-1"],
    ["SLIPWAY_THREAD_USD", "0"],
    ["SLIPWAY_THREAD_USD", "10001"],
    ["SLIPWAY_GITHUB_URL", "github.example.com"],
    ["SLIPWAY_GITHUB_URL", "http://github.example.com"],
    ["SLIPWAY_GITHUB_API_URL", "https://u:p@github.example.com"],
    ["SLIPWAY_FORGES", "https://git.example.com"],
    ["SLIPWAY_FORGES", "gitea=http://git.example.com"],
    ["SLIPWAY_FORGES", "bitbucket=https://bitbucket.org"],
    ["SLIPWAY_PULL_REQUEST", "yes"],
  ])("says in one line what is wrong with %s=%s", (name, value) => {
    const words = complaint({ [name]: value });
    expect(words).toMatch(new RegExp(`^${name} must be [^\\n]+\\.$`));
  });

  it("knows github.com, and derives the API of an Enterprise Server", () => {
    const github = (env: Record<string, string>): string[] => {
      const { githubUrl, githubApiUrl } = readConfig(env);
      return [githubUrl, githubApiUrl];
    };
    expect(github({})).toEqual(["https://github.com", "https://api.github.com"]);
    const url = "https://GitHub.example.com/";
    expect(github({ SLIPWAY_GITHUB_URL: url })).toEqual([
      "https://github.example.com",
      "https://github.example.com/api/v3",
    ]);
    expect(github({ SLIPWAY_GITHUB_URL: "http://git.lan:3000", SLIPWAY_TRUSTED_REPO_HOSTS: "git.lan:3000" })[1]).toBe(
      "http://git.lan:3000/api/v3",
    );
  });

  it("never repeats a secret", () => {
    expect(complaint({ ANTHROPIC_API_KEY: "sk bad" })).not.toContain("sk bad");
    expect(complaint({ SLIPWAY_ADMIN_EMAIL: "a@example.org", SLIPWAY_ADMIN_PASSWORD: "hunter2" })).not.toContain(
      "hunter2",
    );
  });

  it("wants the admin's e-mail and password together", () => {
    expect(complaint({ SLIPWAY_ADMIN_EMAIL: "a@example.org" })).toContain("SLIPWAY_ADMIN_PASSWORD");
    expect(complaint({ SLIPWAY_ADMIN_PASSWORD: "0123456789" })).toContain("SLIPWAY_ADMIN_EMAIL");
  });
});

describe("[S8] where it may listen", () => {
  const admin = { email: "a@example.org", password: "0123456789" };
  const https = { publicUrl: "https://slipway.example.org", insecureLan: false };
  const warnings: string[] = [];
  const log = { warn: (_: object, text: string) => void warnings.push(text) };

  it.each(["127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]", "::ffff:127.0.0.1"])("%s is loopback", (host) => {
    expect(isLoopback(host)).toBe(true);
    expect(() => assertMayListen({ host, admin: null, publicUrl: null, insecureLan: false }, false, log)).not.toThrow();
  });

  it.each(["0.0.0.0", "::", "192.168.1.2", "1270.0.0.1", "127.0.0.1.example.org", "slipway.example.org"])(
    "%s is not",
    (host) => {
      expect(isLoopback(host)).toBe(false);
      expect(() => assertMayListen({ host, admin: null, ...https }, false, log)).toThrow(/SLIPWAY_ADMIN_EMAIL/);
      expect(() => assertMayListen({ host, admin: null, ...https }, true, log)).not.toThrow();
      expect(() => assertMayListen({ host, admin, ...https }, false, log)).not.toThrow();
    },
  );

  it("in clear only this machine reaches it, or a network that the operator says is trusted, with a warning", () => {
    const listen = (publicUrl: string | null, insecureLan: boolean) => () =>
      assertMayListen({ host: "0.0.0.0", admin, publicUrl, insecureLan }, true, log);
    for (const url of [null, "http://slipway.lan:7080", "http://127.0.0.1.example.org"])
      expect(listen(url, false), String(url)).toThrow(/in clear.*SLIPWAY_PUBLIC_URL=https.*--insecure-lan 1/);
    for (const url of ["http://localhost:7080", "http://127.0.0.1:7080", "http://[::1]:7080"])
      expect(listen(url, false), url).not.toThrow();
    expect(warnings).toEqual([]);
    expect(listen("http://slipway.lan:7080", true)).not.toThrow();
    expect(warnings).toEqual([expect.stringContaining("without https")]);
  });
});
