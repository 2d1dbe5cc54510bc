/**
 * The people of a simulated world. They send what the plan says, some of it twice with one key,
 * repeat what got no answer, and answer the questions of tasks.
 */
import type { Identity } from "../../../src/core/ports/accounts.ts";
import type { Commit, NewTask } from "../../../src/core/ports/store.ts";
import type { Coordinator } from "../../../src/coordinator/coordinator.ts";
import { SlipwayError } from "../../../src/core/error.ts";
import { isSettledState, type Task } from "../../../src/core/task.ts";
import type { Act, RequestKind } from "../plan.ts";
import { Dice } from "./dice.ts";
import { Domain } from "./virtual-time.ts";
import type { Simulation } from "./simulation.ts";

export const REPO = "https://git.example.com/team/app";
const OPERATOR: Identity = { userId: "user_op", role: "operator" };
/** Tries after which the client gives up. */
const TRIES = 40;

type Call = (coordinator: Coordinator) => Promise<string>;
type Submission = Extract<Act, { readonly do: "submit" }>;
type PlannedRequest = Extract<Act, { readonly do: RequestKind }>;

/** What was promised to a person. */
export interface Promised {
  readonly key: string;
  readonly kind: "submit" | "message" | "retry";
  /** The text that is unique to this request. */
  readonly text: string;
  readonly results: Set<string>;
}

export class People {
  readonly promises = new Map<string, Promised>();
  readonly #world: Simulation;
  readonly #domain = new Domain("people");
  readonly #dice: Dice;
  readonly #names = new Map<string, string>();
  #count = 0;

  constructor(world: Simulation) {
    this.#world = world;
    this.#dice = new Dice(world.plan.seed, "people");
  }

  submit(act: Submission): void {
    const { name, user, branch, maxAttempts, priority, turns } = act;
    const key = `submit-${name}`;
    const request = {
      repo: REPO,
      prompt: name,
      maxAttempts,
      priority,
      ...(branch === null ? {} : { branch }),
      ...(turns === null ? { agent: "scripted" } : { agent: "anthropic", budget: { turns } }),
    };
    this.#promise(key, "submit", name, act.twice, async ({ tasks }) => {
      const { task } = await tasks.submit({ userId: user, role: "user" }, request, key);
      this.#names.set(name, task.id);
      return task.id;
    });
  }

  async request(act: PlannedRequest): Promise<void> {
    const task = await this.#find(act);
    if (task === null) return;
    const text = `${act.do}${(this.#count += 1)}`;
    const person: Identity = { userId: task.userId, role: "user" };
    this.#world.trace.add(`request: ${act.do} ${task.id} (${text})`);
    switch (act.do) {
      case "message":
        return this.#promise(text, "message", text, act.twice, async ({ tasks }) => {
          const mode = act.choice % 3 === 0 ? "follow_up" : "steer";
          const made = await tasks.message(person, task.id, { text, mode }, text);
          return "task" in made ? made.task.id : made.message.id;
        });
      case "retry": {
        const from = (["start", "checkpoint", "push"] as const)[act.choice % 3] ?? "start";
        return this.#promise(text, "retry", text, act.twice, async ({ tasks }) => {
          const retry = tasks.retry.bind(tasks) as (...args: unknown[]) => Promise<Task | { task: Task }>;
          const made = await retry(person, task.id, { from, prompt: text }, text);
          return "task" in made ? made.task.id : made.id;
        });
      }
      case "cancel":
      case "force":
        return this.#send(text, act.twice, async ({ tasks }) => {
          const by = act.do === "force" ? OPERATOR : person;
          return (await tasks.cancel(by, task.id, act.do === "force")).state;
        });
      case "withdraw":
        return await this.#withdraw(task, text, act.twice);
      case "pause_queue":
        this.#send(text, null, ({ operations }) => operations.setQueueMode("paused").then(() => "paused"));
        this.#world.time.schedule(this.#domain, 1_000 + act.choice * 50, () => this.resumeQueue());
    }
  }

  resumeQueue(): void {
    this.#send("resume", null, ({ operations }) => operations.setQueueMode("open").then(() => "resumed"));
  }

  /** Answers the question that was just recorded, after a while. */
  onWrite(write: Commit | NewTask): void {
    if (!("events" in write)) return;
    for (const { type, data, taskId } of write.events) {
      if (type !== "question") continue;
      const { policy } = this.#world.plan;
      const questionId = String(data["id"]);
      const ms = this.#dice.pick([
        this.#dice.log(100, policy.parkMs),
        this.#dice.int(policy.parkMs, policy.answerMs),
        this.#dice.int(0, policy.answerMs * 2),
      ]);
      const text = questionId.startsWith("budget_") ? this.#dice.pick(["continue", "stop", "3"]) : "This one.";
      const twice = this.#dice.chance(0.2) ? this.#dice.int(0, 20) : null;
      this.#world.time.schedule(this.#domain, ms, () =>
        this.#send(`answer ${questionId}`, twice, async ({ tasks }) => {
          const task = await this.#world.base.store.task(taskId);
          const person: Identity = { userId: task?.userId ?? "", role: "user" };
          return (await tasks.answer(person, taskId, { questionId, text })).id;
        }),
      );
    }
  }

  async #find({ task: name, newest, do: kind }: PlannedRequest): Promise<Task | null> {
    const { store } = this.#world.base;
    const first = await store.task(this.#names.get(name) ?? "");
    if (first === null || !newest) return first;
    const { items } = await store.tasks({ userId: null, threadId: first.threadId, limit: 200 });
    // A request to cancel is about what is going on.
    const open = items.find(({ state }) => !isSettledState(state));
    return (kind === "cancel" || kind === "force" ? open : items[0]) ?? first;
  }

  async #withdraw(task: Task, text: string, twice: number | null): Promise<void> {
    const { items } = await this.#world.base.store.messages(task.id, 0, 100);
    const message = items.find(({ role, status }) => role === "user" && status === "queued");
    if (message === undefined) return;
    this.#send(text, twice, async ({ tasks }) => {
      await tasks.withdraw({ userId: task.userId, role: "user" }, task.id, message.id);
      return message.id;
    });
  }

  #promise(key: string, kind: Promised["kind"], text: string, twice: number | null, call: Call): void {
    const results = new Set<string>();
    this.promises.set(key, { key, kind, text, results });
    this.#send(key, twice, async (coordinator) => {
      const result = await call(coordinator);
      results.add(result);
      return result;
    });
  }

  #send(what: string, twice: number | null, call: Call): void {
    void this.#insist(what, call);
    if (twice !== null)
      this.#world.time.schedule(this.#domain, twice, () => void this.#insist(`${what} (again)`, call));
  }

  /** Repeats the request until it is answered. */
  async #insist(what: string, call: Call): Promise<void> {
    const { time, trace } = this.#world;
    for (let tries = 0; tries < TRIES; tries += 1) {
      const answer = await this.#request(call);
      if (answer !== null) return trace.add(`${what}: ${answer}`);
      await time.wait(this.#domain, this.#dice.log(300, 15_000));
    }
    trace.add(`${what}: given up`);
  }

  /**
   * @returns the result or the refusal; null when there is no answer, or one that invites to try
   * again.
   */
  #request(call: Call): Promise<string | null> {
    const { time, process } = this.#world;
    const coordinator = process?.coordinator ?? null;
    if (process === null || coordinator === null || !process.isListening) return Promise.resolve(null);
    return new Promise((resolve) => {
      const unwatch = process.domain.onEnd(() => time.schedule(this.#domain, 1, () => resolve(null)));
      const answer = (text: string | null): void => {
        unwatch();
        time.schedule(this.#domain, this.#dice.log(1, 20), () => resolve(text));
      };
      time.schedule(process.domain, this.#dice.log(1, 20), () => {
        call(coordinator).then(answer, (error: unknown) => {
          const isRefusal = error instanceof SlipwayError && error.status < 500;
          answer(isRefusal ? `refused: ${error.code}` : null);
        });
      });
    });
  }
}
