/**
 * A day in hell: ten people work while hostile people, containers, git hosts, a hostile provider
 * and fifty strangers do everything at once. `npm run siege` takes half an hour and holds what the
 * ten feel to its aims; a short run, on a machine that does other work too, holds it to bounds that
 * only a fault exceeds.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { deriveInstanceId } from "../../src/core/lib/runtime/instance-id.ts";
import { disksDir, removeRemains } from "../support/docker/cleanup.ts";
import { residentMb, watchPulse } from "../support/docker/attacker.ts";
import { describeWithDocker } from "../support/docker/engine.ts";
import { startGitServer, type GitServer } from "../support/git-server.ts";
import { packet, startHostileHost, type HostileHost } from "../support/hostile/git-host.ts";
import { eventually, startServer, type RealServer } from "../support/process/server.ts";
import { createRandom, SEED } from "../support/random.ts";
import { intrude } from "./siege/intruders.ts";
import { noExperience, percentile, work, type Account, type Experience } from "./siege/people.ts";
import { startProvider, type Provider } from "./siege/provider.ts";
import { pester, type Statuses } from "./siege/anonymous.ts";
import { inFullRuns } from "../support/vitest/full-run.ts";

const MINUTES = Number(process.env["SLIPWAY_SIEGE_MINUTES"] ?? 0.5);
/** The aims hold on a machine that does nothing else. */
const IS_STRICT = process.env["SLIPWAY_SIEGE_STRICT"] === "1";
const FELT_MS = IS_STRICT ? 500 : 10_000;
const MEMORY_MB = 2_048;
/** For the tasks that are not done when the time is up, a hostile one before each of them. */
const LAST_TASKS_MS = 300_000;
const STRANGERS = 50;
const KEY = "sk-real-key-of-the-server-0123456789";
const GIT = { username: "x-access-token", password: "git-token-of-the-siege" };
const INSIDE = join(import.meta.dirname, "../support/docker/inside");

const accounts = (kind: string, count: number): Account[] =>
  Array.from({ length: count }, (_, n) => ({ email: `${kind}${n}@example.org`, password: `password of ${kind} ${n}` }));
const PEOPLE = accounts("person", 10);
const INTRUDERS = accounts("intruder", 2);

/** Hosts that announce without end, drop by drop, and nonsense. */
const startHostileHosts = (): Promise<HostileHost[]> => {
  const sha = "1".repeat(40);
  const refs = Array.from({ length: 200_000 }, (_, n) => `${sha} refs/heads/${"x".repeat(200)}${n}`);
  return Promise.all([
    startHostileHost({ refs }),
    startHostileHost({ refs: [`${sha} refs/heads/main`, `${sha} HEAD symref-target:refs/heads/${"y".repeat(5_000)}`] }),
    startHostileHost({
      advertise: (response) => {
        const timer = setInterval(() => response.write(packet("#")), 100);
        response.on("error", () => undefined).on("close", () => clearInterval(timer));
      },
    }),
  ]);
};

/**
 * Limits a process and what it starts, as a small machine would. @returns whether this user and
 * kernel can.
 */
function limitMemory(pid: number): boolean {
  const group = `/sys/fs/cgroup/memory/slipway-siege-${pid}`;
  try {
    mkdirSync(group);
    writeFileSync(join(group, "memory.limit_in_bytes"), String(MEMORY_MB * 2 ** 20));
    writeFileSync(join(group, "cgroup.procs"), String(pid));
    return true;
  } catch {
    return false;
  }
}

inFullRuns(describeWithDocker)("[S6] [S14] [D8] [D9] a day in hell", () => {
  let dir: string;
  let upstream: GitServer;
  let hosts: HostileHost[];
  let provider: Provider;
  let server: RealServer;
  let repo: string;
  let isLimited: boolean;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "slipway-siege-"));
    [upstream, hosts, provider] = await Promise.all([
      startGitServer({ auth: GIT }),
      startHostileHosts(),
      startProvider(KEY),
    ]);
    const inside = readdirSync(INSIDE, { withFileTypes: true }).filter((entry) => entry.isFile());
    const programs = inside.map(({ name }) => [`attack/${name}`, readFileSync(join(INSIDE, name), "utf8")] as const);
    repo = upstream.createRepo("app", { "README.md": "# app\n", ...Object.fromEntries(programs) }).url;
    server = await startServer({
      dataDir: join(dir, "data"),
      sandbox: "docker",
      policy: { backoffMs: 500, backoffCapMs: 2_000, graceMs: 4_000 },
      env: {
        SLIPWAY_TRUSTED_REPO_HOSTS: [upstream.host, ...hosts.map(({ host }) => host)].join(","),
        ANTHROPIC_API_KEY: KEY,
        ANTHROPIC_BASE_URL: provider.url,
        SLIPWAY_MAX_CONCURRENT: "4",
        SLIPWAY_MAX_MEMORY_MB: "512",
        SLIPWAY_DISK_MB: "256",
        SLIPWAY_LOG_LEVEL: "error",
      },
    });
    isLimited = limitMemory(server.pid);
    for (const account of [...PEOPLE, ...INTRUDERS]) {
      const { status, body } = await server.call("POST", "/v1/users", { ...account, role: "user" });
      expect([status, body]).toEqual([201, expect.anything()]);
    }
  });

  afterAll(async () => {
    await server.kill("SIGTERM");
    await removeRemains(deriveInstanceId(join(dir, "data")), disksDir(join(dir, "data")));
    await Promise.all([upstream.close(), provider.close(), ...hosts.map((host) => host.close())]);
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  });

  it(
    `ten people work for ${MINUTES} min, and each of their tasks is done (seed ${SEED})`,
    { timeout: MINUTES * 60_000 + LAST_TASKS_MS + 60_000 },
    async () => {
      const random = createRandom();
      const place = { url: server.url, repo, gitToken: GIT.password };
      const end = Date.now() + MINUTES * 60_000;
      const isOver = (): boolean => Date.now() >= end;
      const felt = noExperience();
      const statuses: Statuses = new Map();
      const pulse = watchPulse(server);
      const freeMb = (): number => statfsSync(dir).bavail * (statfsSync(dir).bsize / 2 ** 20);
      const freeBefore = freeMb();
      const badRepos = hosts.map(({ url }) => url);
      const [wrong] = await Promise.all([
        Promise.all(INTRUDERS.map((account, n) => intrude({ ...place, badRepos, random, isOver }, account, n))),
        ...Array.from({ length: STRANGERS }, (_, n) =>
          pester({ url: server.url, emails: PEOPLE.map(({ email }) => email), random, isOver }, n, statuses),
        ),
        Promise.race([
          Promise.all(PEOPLE.map((person) => work(place, person, felt, isOver))),
          delay(MINUTES * 60_000 + LAST_TASKS_MS, undefined, { ref: false }).then(() => tellUnfinished(felt)),
        ]),
      ]);
      const { slowestMs, peakMb } = await pulse.stop();
      const spread = (values: readonly number[]): string =>
        `${values.length}, p50 ${percentile(values, 0.5)} ms, p99 ${percentile(values, 0.99)} ms`;
      process.stdout.write(
        `${MINUTES} min${isLimited ? `, ${MEMORY_MB} MiB` : ", memory not limited"}: ${felt.done} tasks done, ` +
          `log-ins ${spread(felt.logins)}; submits ${spread(felt.submits)}; events ${spread(felt.events)}; ` +
          `slowest answer ${slowestMs} ms, at most ${peakMb} MiB, ${Math.round(freeBefore - freeMb())} MiB of disk, ` +
          `strangers ${JSON.stringify(Object.fromEntries([...statuses].toSorted(([a], [b]) => a - b)))}, ` +
          `${provider.hostileAnswers()} hostile answers\n`,
      );

      expect(felt.failures).toEqual([]);
      expect(felt.done).toBeGreaterThanOrEqual(PEOPLE.length);
      expect(percentile(felt.submits, 0.99)).toBeLessThan(FELT_MS);
      expect(percentile(felt.events, 0.99)).toBeLessThan(FELT_MS);
      // The attacks arrive: they are refused, not unsent.
      expect(statuses.get(401)).toBeGreaterThan(0);
      expect([...statuses.keys()].filter((status) => status >= 500 && status !== 503)).toEqual([]);
      expect(wrong.flat()).toEqual([]);
      // The same process, within its memory.
      expect(server.process.exitCode).toBeNull();
      expect(residentMb(server.pid)).toBeLessThan(MEMORY_MB / 2);
      await booksEqualTheBill();
    },
  );

  /** Throws with what the server says of each task that people still watch, and of the slots. */
  async function tellUnfinished({ watched, done }: Experience): Promise<never> {
    const tell = async ([id, last]: [string, string]): Promise<string> => {
      const { body } = await server.call("GET", `/v1/tasks/${id}`);
      return `${JSON.stringify(body)}; the watch has ${last}`;
    };
    const tasks = await Promise.all([...watched].map(tell));
    const { body } = await server.call("GET", "/v1/ops/overview");
    throw new Error(`${done} tasks are done, and these are not:\n${tasks.join("\n")}\n${JSON.stringify(body)}`);
  }

  /** The usage that people see equals the amount that the provider billed for answered requests. */
  async function booksEqualTheBill(): Promise<void> {
    const spent = await eventually(async () => {
      const { items } = (await server.call("GET", "/v1/usage?limit=100")).body as {
        items: { user: { email: string }; usd: { month: number } }[];
      };
      return items.filter(({ user }) => user.email.startsWith("person")).reduce((sum, { usd }) => sum + usd.month, 0);
    }, "the usage is told");
    expect(spent).toBeCloseTo(provider.billedUsd(), 6);
  }
});
