/** People who work while others attack: they log in, submit and watch, and note what they feel. */
import { WebSocket } from "ws";
import { SlipwayClient } from "../../../src/client/index.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";

export interface Account {
  readonly email: string;
  readonly password: string;
}

/** Milliseconds, and what went wrong. */
export interface Experience {
  readonly logins: number[];
  readonly submits: number[];
  /** From an event's time, which the server or the worker wrote, until the client has it. */
  readonly events: number[];
  readonly failures: string[];
  /** Tasks that are watched, and what is known of their last event. */
  readonly watched: Map<string, string>;
  done: number;
}

export const noExperience = (): Experience => ({
  logins: [],
  submits: [],
  events: [],
  failures: [],
  watched: new Map(),
  done: 0,
});

export interface Workplace {
  readonly url: string;
  readonly repo: string;
  readonly gitToken: string;
}

const SCRIPT = [
  { bash: "sed -n 1,3p README.md; sleep 0.5" },
  { bash: "date +%N > work.txt" },
  { finish: { title: "Write the time", summary: "It is written." } },
];

/** One task after the other until `isOver`; the last one is waited for. */
export async function work(
  { url, repo, gitToken }: Workplace,
  { email, password }: Account,
  felt: Experience,
  isOver: () => boolean,
): Promise<void> {
  const client = new SlipwayClient({ baseUrl: url, WebSocket });
  await timed(felt.logins, () => client.login(email, password));
  await client.putCredential({ host: new URL(repo).host, kind: "token", token: gitToken });
  for (let n = 0; !isOver(); n++) {
    // Every fifth logs in again, as from another device.
    if (n % 5 === 4) await timed(felt.logins, () => client.login(email, password));
    const asked = { repo, prompt: "Write the time.", ...(n % 2 === 0 ? { agent: "scripted", script: SCRIPT } : {}) };
    const { id } = await timed(felt.submits, () => client.submit(asked));
    const ended = await watch(client, id, felt);
    if (ended.state === "done" && ended.outcome === "pushed") felt.done += 1;
    else felt.failures.push(`${id}: ${ended.state} ${JSON.stringify(ended.failure)}`);
  }
}

async function watch(client: SlipwayClient, id: string, { events, watched }: Experience): Promise<WireTask> {
  const begun = Date.now();
  watched.set(id, "no event");
  for await (const { at, type } of client.watch(id)) {
    watched.set(id, `${type} at ${at}`);
    // Events from before the subscription are replayed; they do not count as latency.
    if (Date.parse(at) >= begun) events.push(Date.now() - Date.parse(at));
  }
  const task = await client.task(id);
  watched.delete(id);
  return task;
}

async function timed<T>(into: number[], call: () => Promise<T>): Promise<T> {
  const begun = performance.now();
  const result = await call();
  into.push(performance.now() - begun);
  return result;
}

/** @param share 0..1. @returns 0 without values. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0);
}
