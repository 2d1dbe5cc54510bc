/**
 * A long life of one real server: thousands of tasks of real workers, with phones that watch over
 * WebSockets. Every few hundred tasks it is looked at from outside, at rest; what grows with the
 * number of settled tasks is a leak. `npm run bench -- soak [tasks] [tasks between two looks]`.
 */
import { execFileSync } from "node:child_process";
import { setMaxListeners } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket } from "ws";
import { SlipwayClient, type WireTask } from "../../src/client/index.ts";
import { systemClock } from "../../src/core/lib/runtime/system-clock.ts";
import { isSettledState } from "../../src/core/task.ts";
import { Inspector } from "../inspector.ts";
import { startServer, startUpstream, type Server } from "../server.ts";

interface Look {
  readonly tasks: number;
  readonly perMinute: number;
  /** After a collection. */
  readonly heapBytes: number;
  readonly rssBytes: number;
  readonly files: number;
  readonly sockets: number;
  readonly walBytes: number;
  readonly databaseBytes: number;
  readonly mirrorBytes: number;
  /** Of the mirror, after the garbage collection. */
  readonly packs: number;
}

/** What may stay of a settled task, from the first look after WARM tasks to the last. */
const BOUNDS = {
  heapBytesPerTask: 2_048,
  rssBytesPerTask: 16_384,
  files: 32,
  sockets: 16,
  walBytes: 64 * 2 ** 20,
  packs: 16,
} as const;

/**
 * Tasks before the first measurement, after which all caches are full: the largest holds the
 * constant parts of 1,024 tasks, about 6 kB each. A shorter soak cannot measure growth; it says
 * what the heap has more of.
 */
const WARM = 1_250;

export const SOAK = { tasks: 5_000, every: 250 } as const;
const PHONES = 30;
const SLOTS = 4;
/** Tasks between two commits upstream, each of which makes the mirror fetch again. */
const TASKS_PER_COMMIT = 10;
/** Longest time without a task that settles, ms. */
const STALL_MS = 300_000;
/** Effects, sockets and timers of the last tasks end. */
const REST_MS = 3_000;
const KINDS_SHOWN = 12;

type Print = (line: string) => void;

export async function soak(tasks: number, every: number, print: Print): Promise<boolean> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-soak-"));
  const upstream = await startUpstream(join(dir, "upstream"));
  const data = join(dir, "data");
  const closers: (() => unknown)[] = [() => upstream.close()];
  try {
    const server = await startServer(data, environment(upstream.host), ["--inspect=127.0.0.1:0"]);
    closers.unshift(() => server.end("SIGTERM"));
    const inspector = await Inspector.open(await server.inspector());
    closers.unshift(() => inspector.close());
    const phones = new Phones(server);
    closers.unshift(() => phones.close());
    const repo = `${upstream.url}/app.git`;
    const world = { server, inspector, phones, repo, data, bare: join(dir, "upstream", "app.git") };
    return await live(world, tasks, every, print);
  } finally {
    for (const close of closers) await close();
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

const environment = (host: string): Record<string, string> => ({
  SLIPWAY_SANDBOX: "process",
  SLIPWAY_TRUSTED_REPO_HOSTS: host,
  SLIPWAY_MAX_CONCURRENT: String(SLOTS),
  SLIPWAY_MIN_FREE_MB: "0",
  SLIPWAY_USER_TASKS_PER_MINUTE: "0",
  SLIPWAY_USER_TASKS_PER_DAY: "0",
  SLIPWAY_USER_OPEN_TASKS: "0",
});

interface World {
  readonly server: Server;
  readonly inspector: Inspector;
  readonly phones: Phones;
  readonly repo: string;
  readonly data: string;
  /** The upstream's repository on the disk. */
  readonly bare: string;
}

async function live(world: World, tasks: number, every: number, print: Print): Promise<boolean> {
  const { inspector, phones, server, repo, bare } = world;
  const looks: Look[] = [];
  let before: Awaited<ReturnType<Inspector["countObjects"]>> | null = null;
  print(HEAD.join(" | "));
  for (let done = 0; done < tasks;) {
    const begun = performance.now();
    const count = Math.min(every, tasks - done);
    for (let i = 0; i < count; i += 1) {
      if (i % TASKS_PER_COMMIT === 0) commitUpstream(bare);
      await server.call("POST", "/v1/tasks", { repo, prompt: `Task ${done + i}`, script: scriptOf(done + i) });
    }
    done += count;
    await phones.untilSettled(done);
    await systemClock.sleep(REST_MS);
    await server.call("POST", "/v1/ops/gc", {});
    looks.push(await look(world, done, count / ((performance.now() - begun) / 60_000)));
    print(toLine(looks.at(-1)));
    // The first round warms up: code is compiled and pools are filled. A snapshot leaves 150 MB of
    // free memory in the process, in which growth would hide: it is taken where none is judged.
    if (looks.length === 2 && tasks <= WARM) before = await inspector.countObjects();
  }
  if (before !== null) for (const line of compare(before, await inspector.countObjects())) print(line);
  return judge(looks, print);
}

/** Half of the tasks change a file and push a branch. */
const scriptOf = (i: number): object[] => [
  ...Array.from({ length: 20 }, (_, n) => ({ say: `Step ${n} of task ${i}: the next file is read.` })),
  { bash: "seq 200" },
  ...(i % 2 === 0 ? [{ write: { path: `file-${i}.txt`, content: `Task ${i}\n` } }] : []),
];

function commitUpstream(bare: string): void {
  const identity = ["-c", "user.name=Upstream", "-c", "user.email=upstream@example.com"];
  const git = (...args: string[]): string =>
    execFileSync("git", ["-C", bare, ...identity, ...args])
      .toString()
      .trim();
  const commit = git("commit-tree", "main^{tree}", "-p", "main", "-m", "Moves on.");
  git("update-ref", "refs/heads/main", commit);
}

async function look({ server, inspector, data }: World, tasks: number, perMinute: number): Promise<Look> {
  const heapBytes = await inspector.heapBytes();
  const proc = `/proc/${server.pid}`;
  const rssKb = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`${proc}/status`, "utf8"))?.[1];
  const links = readdirSync(`${proc}/fd`).map((fd) => readLink(`${proc}/fd/${fd}`));
  const mirrors = join(data, "git", "mirrors");
  const files = readdirSync(mirrors, { recursive: true, encoding: "utf8" }).map((path) => join(mirrors, path));
  return {
    tasks,
    perMinute,
    heapBytes,
    rssBytes: Number(rssKb) * 1_024,
    files: links.length,
    sockets: links.filter((link) => link.startsWith("socket:")).length,
    walBytes: sizeOf(join(data, "slipway.db-wal")),
    databaseBytes: sizeOf(join(data, "slipway.db")),
    mirrorBytes: files.reduce((sum, path) => sum + sizeOf(path), 0),
    packs: files.filter((path) => path.endsWith(".pack")).length,
  };
}

function readLink(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "closed meanwhile";
  }
}

const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;

/** Clients as phones have them: each watches all tasks, and one open task after the other. */
class Phones {
  readonly #stop = new AbortController();
  readonly #settled = new Set<string>();
  readonly #open = new Set<string>();
  readonly #ended: Promise<unknown>[];
  #changedAt = performance.now();

  constructor({ url, token }: Server) {
    setMaxListeners(0, this.#stop.signal);
    const clients = Array.from({ length: PHONES }, () => new SlipwayClient({ baseUrl: url, token, WebSocket }));
    this.#ended = clients.flatMap((client, i) => [this.#watchList(client), this.#watchTasks(client, i)]);
  }

  async untilSettled(tasks: number): Promise<void> {
    while (this.#settled.size < tasks) {
      if (performance.now() - this.#changedAt > STALL_MS)
        throw new Error(`${this.#settled.size} of ${tasks} tasks have settled, and no other does`);
      await systemClock.sleep(100);
    }
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.allSettled(this.#ended);
  }

  async #watchList(client: SlipwayClient): Promise<void> {
    for await (const task of client.watchTasks({ all: true, signal: this.#stop.signal })) this.#note(task);
  }

  #note({ id, state }: WireTask): void {
    if (!isSettledState(state)) return void (this.#settled.has(id) || this.#open.add(id));
    this.#open.delete(id);
    if (this.#settled.has(id)) return;
    this.#settled.add(id);
    this.#changedAt = performance.now();
  }

  async #watchTasks(client: SlipwayClient, phone: number): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const id = [...this.#open][phone % SLOTS];
      if (id === undefined) await systemClock.sleep(200, signal);
      else
        for await (const event of client.watch(id, { signal }))
          if (event.type === "task.state") this.#changedAt = performance.now();
    }
  }
}

const HEAD = ["tasks", "per min", "heap MB", "rss MB", "files", "sockets", "WAL MB", "db MB", "mirror MB", "packs"];
const mb = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);

function toLine(found: Look | undefined): string {
  if (found === undefined) return "";
  const { tasks, perMinute, heapBytes, rssBytes, files, sockets, walBytes, databaseBytes, mirrorBytes, packs } = found;
  const cells = [tasks, Math.round(perMinute), mb(heapBytes), mb(rssBytes), files, sockets, mb(walBytes)];
  return [...cells, mb(databaseBytes), mb(mirrorBytes), packs]
    .map((cell, i) => String(cell).padStart(HEAD[i]?.length ?? 0))
    .join(" | ");
}

/** The kinds of objects that take the most memory more than before. */
function compare(
  before: ReadonlyMap<string, { readonly count: number; readonly bytes: number }>,
  after: ReadonlyMap<string, { readonly count: number; readonly bytes: number }>,
): string[] {
  const grown = [...after].map(([kind, { count, bytes }]) => ({
    kind,
    count: count - (before.get(kind)?.count ?? 0),
    bytes: bytes - (before.get(kind)?.bytes ?? 0),
  }));
  const most = grown.filter(({ bytes }) => bytes > 0).toSorted((a, b) => b.bytes - a.bytes);
  return [
    "what the heap has more of than at the second look:",
    ...most.slice(0, KINDS_SHOWN).map(({ kind, count, bytes }) => `  ${bytes} B in ${count} more: ${kind}`),
  ];
}

/** @returns true when nothing grows beyond its bound. */
function judge(looks: readonly Look[], print: Print): boolean {
  const to = looks.at(-1);
  const from = looks.find((one) => one.tasks >= WARM) ?? to;
  if (from === undefined || to === undefined) return false;
  if (from === to) print(`heap and memory are not judged: no look follows the first one after ${WARM} tasks`);
  const tasks = Math.max(1, to.tasks - from.tasks);
  const found: Record<keyof typeof BOUNDS, number> = {
    heapBytesPerTask: (to.heapBytes - from.heapBytes) / tasks,
    rssBytesPerTask: (to.rssBytes - from.rssBytes) / tasks,
    files: to.files - from.files,
    sockets: to.sockets - from.sockets,
    walBytes: Math.max(...looks.map(({ walBytes }) => walBytes)),
    packs: Math.max(...looks.map(({ packs }) => packs)),
  };
  const kinds = Object.keys(BOUNDS) as (keyof typeof BOUNDS)[];
  for (const kind of kinds)
    print(
      `${found[kind] <= BOUNDS[kind] ? "ok      " : "EXCEEDED"} ${kind}: ${Math.round(found[kind])}, at most ${BOUNDS[kind]}`,
    );
  return kinds.every((kind) => found[kind] <= BOUNDS[kind]);
}
