/**
 * People who submit tasks and speak while the coordinator is killed. Each of their requests has a
 * key and is sent until it is answered, the important ones twice at once; what became of the tasks
 * is judged by the log and the upstream.
 */
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import type { WireEvent } from "../../../src/core/protocol/events.ts";
import { listProcesses } from "./processes.ts";
import { REPO, type Answer, type Killed } from "./installation.ts";

const POLL_MS = 150;
/** Under kills a task may take long; one that takes longer fails, ms on an idle machine. */
const TASK_MS = 600_000;
const MAX_ATTEMPTS = 10;
/** Events that are printed of a task that does not settle. */
const STORY = 40;

/** What people want of a task, and with it how it must end. */
const KINDS = ["pushed", "refused", "pushed", "cancelled", "messaged", "pushed", "answered", "retried"] as const;
type Kind = (typeof KINDS)[number];

function scriptOf(kind: Kind, i: number): object[] {
  const work = [
    { write: { path: `task-${i}.txt`, content: `${i}\n` } },
    { wait: 200 },
    { finish: { title: `Task ${i}`, summary: "" } },
  ];
  switch (kind) {
    case "pushed":
    case "messaged":
      return work;
    case "refused":
    case "retried":
      return [{ fail: { code: "refused", message: "no" } }];
    case "cancelled":
      return [{ hang: true }];
    case "answered":
      return [{ ask: { question: "Go on?" } }, ...work];
  }
}

/** Submits task `i`, speaks to it as its kind demands, and judges it. @returns its id. */
export async function runTask(killed: Killed, i: number): Promise<string> {
  const kind = KINDS[i % KINDS.length] ?? "pushed";
  const id = await submit(killed, kind, i);
  const spoken = await follow(killed, id, kind, i);
  const children = await childrenOf(killed, id);
  const task = await read(killed, id);
  await judge(killed, task, kind, i);
  if (kind === "retried") {
    expect(children, `one retry of task ${i}`).toHaveLength(1);
    expect(children[0]).toMatchObject({ id: spoken, state: "failed" });
  } else if (kind === "messaged") await judgeMessage(killed, task, children, spoken, i);
  else expect(children, `nothing followed task ${i}`).toEqual([]);
  return id;
}

async function submit(killed: Killed, kind: Kind, i: number): Promise<string> {
  const asked = {
    repo: killed.repo.url,
    prompt: `Task ${i}`,
    branch: `work/${i}`,
    script: scriptOf(kind, i),
    maxAttempts: MAX_ATTEMPTS,
  };
  return idOf(await twice(killed, "/v1/tasks", asked, `task-${i}`));
}

/** The same request with the same key twice at once: the answers must name the same thing. */
async function twice(killed: Killed, path: string, body: object, key: string): Promise<Answer> {
  const answers = await Promise.all([killed.call("POST", path, body, key), killed.call("POST", path, body, key)]);
  const [one, two] = answers;
  for (const { status, body: said } of answers) expect(status, JSON.stringify(said)).toBeLessThan(300);
  expect(idOf(one), `[R5] ${key} sent twice`).toBe(idOf(two));
  return one;
}

const idOf = ({ body }: Answer): string => (body as { id: string }).id;

async function get<T>(killed: Killed, path: string): Promise<T> {
  const { status, body } = await killed.call("GET", path);
  expect(status, `GET ${path}: ${JSON.stringify(body)}`).toBe(200);
  return body as T;
}

const read = (killed: Killed, id: string): Promise<WireTask> => get(killed, `/v1/tasks/${id}`);

/** @returns the id of the message or of the retry; null = none was sent. */
async function follow(killed: Killed, id: string, kind: Kind, i: number): Promise<string | null> {
  let spoken: string | null = null;
  const speak = async (path: string, body: object, key: string): Promise<void> => {
    spoken ??= idOf(await twice(killed, `/v1/tasks/${id}/${path}`, body, key));
  };
  for (const begun = Date.now(); ; await delay(POLL_MS)) {
    const task = await read(killed, id);
    if (kind === "messaged" && task.startedAt !== null) await speak("messages", { text: `Note ${i}` }, `note-${i}`);
    if (task.settledAt !== null) {
      if (kind === "retried") await speak("retry", { from: "start" }, `retry-${i}`);
      return spoken;
    }
    if (Date.now() > begun + TASK_MS * killed.slowness())
      throw new Error(
        `task ${i} (${kind}) is ${task.state} ${JSON.stringify(task.failure)}\n${await story(killed, id)}`,
      );
    if (kind === "cancelled" && task.state === "running")
      await killed.call("POST", `/v1/tasks/${id}/cancel`, {}, `cancel-${i}`);
    if (task.question) {
      const answer = { questionId: task.question.id, text: "yes" };
      await killed.call("POST", `/v1/tasks/${id}/answer`, answer, `answer-${i}`);
    }
  }
}

/** The end of its log and the processes of its installation, for a task that does not settle. */
async function story(killed: Killed, id: string): Promise<string> {
  const { items } = await get<{ items: WireEvent[] }>(killed, `/v1/tasks/${id}/events?limit=1000`);
  const events = items.slice(-STORY).map(({ at, type, data }) => `${at} ${type} ${JSON.stringify(data).slice(0, 200)}`);
  const processes = listProcesses(killed.data).map(({ pid, box }) => `${pid} ${box}`);
  return [new Date().toISOString(), ...events, ...processes].join("\n");
}

/** The tasks that followed it, when they have settled. */
async function childrenOf(killed: Killed, id: string): Promise<WireTask[]> {
  const { threadId } = await read(killed, id);
  for (const begun = Date.now(); ; await delay(POLL_MS)) {
    const { items } = await get<{ items: WireTask[] }>(killed, `/v1/tasks?thread=${threadId}`);
    if (items.every(({ settledAt }) => settledAt !== null)) return items.filter((task) => task.id !== id);
    if (Date.now() > begun + TASK_MS * killed.slowness()) throw new Error(`the thread of ${id} does not settle`);
  }
}

/** [R6] It was read, or it is the one follow-up task. */
async function judgeMessage(
  killed: Killed,
  { id }: WireTask,
  children: readonly WireTask[],
  spoken: string | null,
  i: number,
): Promise<void> {
  const { items } = await get<{ items: { id: string; status: string; role: string }[] }>(
    killed,
    `/v1/tasks/${id}/messages`,
  );
  const said = items.filter(({ role }) => role === "user");
  const prompts = children.map(({ prompt, state }) => [prompt, state]);
  const followed = [[`Note ${i}`, "done"]];
  // Said after the end, it began the follow-up itself.
  if (said.length === 0) expect([children.map((one) => one.id), prompts]).toEqual([[spoken], followed]);
  else {
    expect(said.map((one) => one.id)).toEqual([spoken]);
    expect(prompts).toEqual(said[0]?.status === "moved" ? followed : []);
    expect(["delivered", "moved"]).toContain(said[0]?.status);
  }
}

async function judge(killed: Killed, task: WireTask, kind: Kind, i: number): Promise<void> {
  const fails = kind === "refused" || kind === "retried";
  const state = fails ? "failed" : kind === "cancelled" ? "cancelled" : "done";
  const { items: attempts } = (await killed.call("GET", `/v1/tasks/${task.id}/attempts`)).body as {
    items: { failure: string | null }[];
  };
  for (const { failure } of attempts)
    if (failure !== null) killed.failures.set(failure, (killed.failures.get(failure) ?? 0) + 1);
  const seen = JSON.stringify([task.failure, attempts], null, 1);
  expect([i, kind, task.state, task.failure?.code ?? null], seen).toEqual([i, kind, state, fails ? "refused" : null]);
  if (state !== "done") return;
  const { git } = killed.upstream;
  expect(git(REPO, "rev-parse", `refs/heads/work/${i}`)).toBe(task.headSha);
  expect(git(REPO, "rev-list", "--count", `main..work/${i}`)).toBe("1");
  expect(git(REPO, "show", `work/${i}:task-${i}.txt`)).toBe(String(i));
}
