/**
 * Many people at once: 2,000 sockets and 200 requests/s of log-ins, refreshes and reads against a
 * server in a process of its own. Requests are sent at their time, whether or not earlier ones were
 * answered, so a stall shows in the latencies. Client and server share the machine.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket } from "ws";
import { PROTOCOL } from "../../../src/core/protocol/stream-constants.ts";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import { probeLoop, readLoopDelays, startServer, type LoopDelays, type Server } from "../../server.ts";
import { percentile } from "../../support.ts";

export interface Load {
  readonly sockets: number;
  readonly perSecond: number;
  readonly seconds: number;
  readonly reads: Spread;
  readonly logins: Spread;
  readonly refreshes: Spread;
  /** Requests without an answer below 400, and sockets that closed. */
  readonly errors: number;
  readonly lag: LoopDelays;
}

interface Spread {
  readonly p50: number;
  readonly p99: number;
  readonly count: number;
}

const SOCKETS_PER_PERSON = 20;
/** Sockets that open at the same time. */
const AT_ONCE = 50;
const TASKS = 200;
const PASSWORD = "seven green lanterns";
/** Of 40 requests: one log-in, four refreshes, 35 reads. */
const CYCLE = 40;
const REFRESHES = 4;
const WARM_UP_S = 5;

interface Person {
  readonly email: string;
  accessToken: string;
  refreshToken: string;
  /** A refresh token is good once: one at a time. */
  isRefreshing: boolean;
}

export async function load({ sockets = 2_000, perSecond = 200, seconds = 60 } = {}): Promise<Load> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-load-"));
  const lagFile = join(dir, "lag.json");
  const env = { SLIPWAY_SANDBOX: "simulated", SLIPWAY_LOG_LEVEL: "error", SLIPWAY_ADDRESS_CONNECTIONS: "0" };
  const quotas = {
    SLIPWAY_USER_TASKS_PER_MINUTE: "0",
    SLIPWAY_USER_TASKS_PER_DAY: "0",
    SLIPWAY_USER_OPEN_TASKS: "0",
  };
  const node = ["--import", probeLoop(lagFile)];
  const server = await startServer(join(dir, "data"), { ...env, ...quotas }, node);
  const open: WebSocket[] = [];
  try {
    const people: Person[] = [];
    while (people.length * SOCKETS_PER_PERSON < sockets) people.push(await addPerson(server, people.length));
    const tasks = await submit(server, people);
    while (open.length < sockets) {
      const count = Math.min(AT_ONCE, sockets - open.length);
      const opening = Array.from({ length: count }, (_, i) => watch(server, people, open.length + i));
      open.push(...(await Promise.all(opening)));
    }
    const run = new Run(server, people, tasks);
    await run.send(perSecond, WARM_UP_S);
    run.clear();
    await readLoopDelays(server, lagFile);
    await run.send(perSecond, seconds);
    const lag = await readLoopDelays(server, lagFile);
    const closed = open.filter(({ readyState }) => readyState !== WebSocket.OPEN).length;
    return { sockets: open.length, perSecond, seconds, ...run.spreads(), errors: run.errors + closed, lag };
  } finally {
    for (const socket of open) socket.terminate();
    await server.end("SIGTERM");
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function addPerson(server: Server, n: number): Promise<Person> {
  const email = `person${n}@example.org`;
  await server.call("POST", "/v1/users", { email, password: PASSWORD, role: "user" });
  return { email, isRefreshing: false, ...(await logIn(server, email)) };
}

async function logIn({ url }: Server, email: string): Promise<Pick<Person, "accessToken" | "refreshToken">> {
  const answer = await post(`${url}/v1/auth/login`, { email, password: PASSWORD });
  if (!answer.ok) throw new Error(`the log-in was refused: ${await answer.text()}`);
  const { accessToken, refreshToken } = (await answer.json()) as Pick<Person, "accessToken" | "refreshToken">;
  return { accessToken, refreshToken };
}

const post = (url: string, body: object, token?: string): Promise<Response> =>
  fetch(url, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
    body: JSON.stringify(body),
  });

/** Ids of tasks by their owner's place in the list of people. */
async function submit({ url }: Server, people: readonly Person[]): Promise<ReadonlyMap<number, string>> {
  const ids = new Map<number, string>();
  for (let n = 0; n < TASKS; n += 1) {
    const owner = n % people.length;
    const body = { repo: "https://git.example.com/team/app", prompt: `Task ${n}`, title: `Task ${n}` };
    const answer = await post(`${url}/v1/tasks`, body, people[owner]?.accessToken);
    ids.set(owner, ((await answer.json()) as { id: string }).id);
  }
  return ids;
}

function watch({ url }: Server, people: readonly Person[], n: number): Promise<WebSocket> {
  const authorization = `Bearer ${people[n % people.length]?.accessToken}`;
  const socket = new WebSocket(`${url.replace("http", "ws")}/v1/stream`, PROTOCOL, { headers: { authorization } });
  return new Promise((resolve, reject) => {
    socket.on("error", (error) => reject(new Error(`socket ${n}: ${error.message}`, { cause: error })));
    socket.once("message", () => {
      socket.send(JSON.stringify({ type: "subscribe", topic: "tasks", after: null }));
      resolve(socket);
    });
  });
}

class Run {
  readonly #server: Server;
  readonly #people: readonly Person[];
  readonly #tasks: ReadonlyMap<number, string>;
  #times: Record<"reads" | "logins" | "refreshes", number[]> = { reads: [], logins: [], refreshes: [] };
  #n = 0;
  errors = 0;

  constructor(server: Server, people: readonly Person[], tasks: ReadonlyMap<number, string>) {
    this.#server = server;
    this.#people = people;
    this.#tasks = tasks;
  }

  clear(): void {
    this.#times = { reads: [], logins: [], refreshes: [] };
    this.errors = 0;
  }

  spreads(): Pick<Load, "reads" | "logins" | "refreshes"> {
    const toSpread = (times: readonly number[]): Spread => ({
      p50: percentile(times, 50),
      p99: percentile(times, 99),
      count: times.length,
    });
    const { reads, logins, refreshes } = this.#times;
    return { reads: toSpread(reads), logins: toSpread(logins), refreshes: toSpread(refreshes) };
  }

  /** At an even pace; resolves when all were answered. */
  async send(perSecond: number, seconds: number): Promise<void> {
    const begun = performance.now();
    const pending: Promise<void>[] = [];
    for (let sent = 0; sent < perSecond * seconds;) {
      const due = Math.floor(((performance.now() - begun) / 1_000) * perSecond);
      for (; sent < Math.min(due, perSecond * seconds); sent += 1) {
        const dueAt = begun + (sent / perSecond) * 1_000;
        pending.push(this.#one(this.#n, dueAt));
        this.#n += 1;
      }
      await systemClock.sleep(2);
    }
    await Promise.all(pending);
  }

  async #one(n: number, dueAt: number): Promise<void> {
    const place = (n * 7) % this.#people.length;
    const person = this.#people[place];
    if (person === undefined) return;
    const kind = n % CYCLE === 0 ? "logins" : n % CYCLE <= REFRESHES && !person.isRefreshing ? "refreshes" : "reads";
    try {
      if (kind === "logins") await logIn(this.#server, person.email);
      else if (kind === "refreshes") await this.#refresh(person);
      else await this.#read(n, place, person);
      this.#times[kind].push(performance.now() - dueAt);
    } catch {
      this.errors += 1;
    }
  }

  async #refresh(person: Person): Promise<void> {
    person.isRefreshing = true;
    try {
      const answer = await post(`${this.#server.url}/v1/auth/refresh`, { refreshToken: person.refreshToken });
      if (!answer.ok) throw new Error(await answer.text());
      Object.assign(person, await answer.json());
    } finally {
      person.isRefreshing = false;
    }
  }

  async #read(n: number, place: number, { accessToken }: Person): Promise<void> {
    const id = this.#tasks.get(place) ?? "";
    const paths = ["/v1/tasks?limit=50", `/v1/tasks/${id}`, `/v1/tasks/${id}/events`, "/v1/me", "/v1/tasks/counts"];
    const path = paths[n % paths.length] ?? "";
    const answer = await fetch(this.#server.url + path, { headers: { authorization: `Bearer ${accessToken}` } });
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    await answer.text();
  }
}
