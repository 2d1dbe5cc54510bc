/**
 * A worker of a simulated world: it speaks the worker protocol with the real worker service, keeps
 * its events in a journal until they are acknowledged, and goes on while nobody listens.
 */
import { SequenceGap, SlipwayError } from "../../../src/core/error.ts";
import type { EventData, WorkerEventType } from "../../../src/core/event.ts";
import type { SandboxSpec } from "../../../src/core/ports/sandbox.ts";
import {
  WORKER_EXIT,
  type WorkerCommand,
  type WorkerEvent,
  type WorkerSpec,
} from "../../../src/core/protocol/worker.ts";
import type { Behaviour, Misdeed, Step } from "./behaviour.ts";
import type { Dice } from "./dice.ts";
import type { Upstream } from "./upstream.ts";
import type { Domain, VirtualTime } from "./virtual-time.ts";
import { Unreachable, type Request, type Wire } from "./wire.ts";

export interface WorkerDeps {
  readonly time: VirtualTime;
  readonly wire: Wire;
  readonly domain: Domain;
  readonly dice: Dice;
  readonly upstream: Upstream;
  readonly behaviour: Behaviour;
  readonly sandbox: SandboxSpec;
  /** Longest poll for commands, ms. */
  readonly pollMs: number;
  /** Called when the worker begins to misbehave. */
  readonly onMisdeed: (misdeed: Misdeed) => void;
}

/** Ends the worker with this exit code. */
class Exit extends Error {
  readonly exitCode: number;

  constructor(exitCode: number) {
    super(`exit ${exitCode}`);
    this.exitCode = exitCode;
  }
}

const BATCH = 20;
const MODEL = "sim";
const MODEL_MS = 300;

export class Worker {
  readonly #deps: WorkerDeps;
  readonly #journal: WorkerEvent[] = [];
  readonly #messages: string[] = [];
  readonly #answers = new Map<string, string>();
  #acked = 0;
  #seq = 0;
  #isSending = false;
  #cancel: number | null = null;
  #tip = "";
  #count = 0;
  /** Set when the attempt is over or the worker gives up. */
  #exit: Exit | null = null;
  #wake: () => void = () => undefined;
  #lastAnswerAt = 0;
  #abandonMs = Infinity;
  /** When the worker ends its attempt by itself. */
  #endAt = Infinity;

  constructor(deps: WorkerDeps) {
    this.#deps = deps;
    this.#lastAnswerAt = deps.time.now;
  }

  /** Resolves with the exit code. */
  async run(): Promise<number> {
    try {
      await this.#work();
      return WORKER_EXIT.reported;
    } catch (error) {
      if (error instanceof Exit) return error.exitCode;
      throw error;
    } finally {
      this.#exit ??= new Exit(0);
    }
  }

  async #work(): Promise<void> {
    const { behaviour } = this.#deps;
    await this.#wait(behaviour.bootMs);
    const spec = await this.#retry(({ callbacks }, signal) => {
      const { taskId, attempt } = this.#deps.sandbox;
      return callbacks.worker.spec(taskId, attempt, signal);
    });
    this.#abandonMs = spec.abandonMs;
    this.#tip = spec.resume?.sha ?? spec.baseSha;
    for (const [id, text] of Object.entries(spec.answers)) this.#answers.set(id, text);
    await this.#wait(behaviour.cloneMs);
    if (behaviour.misdeed === "never_ready") await this.#misbehave("never_ready");
    this.#emit("ready", {});
    this.#endAt = this.#deps.time.now + spec.wallMs;
    void this.#poll(spec.commandsAfter);
    for (const [i, step] of behaviour.steps.entries()) {
      if (behaviour.misdeed !== null && behaviour.misdeedAt === i) await this.#misbehave(behaviour.misdeed);
      await this.#step(step, spec);
      this.#deliverMessages();
      if (this.#cancel !== null) return await this.#windDown();
    }
    await this.#wait(behaviour.checksMs);
    if (behaviour.misdeed !== null) await this.#misbehave(behaviour.misdeed);
    if (behaviour.changes) await this.#commit(spec.workRef);
    this.#emit("finished", { sha: behaviour.changes ? this.#tip : spec.baseSha, title: "Work", summary: "Done." });
    await this.#flush();
  }

  async #step(step: Step, spec: WorkerSpec): Promise<void> {
    const id = `${step.do}${(this.#count += 1)}`;
    switch (step.do) {
      case "tool":
        this.#emit("tool.started", { id, name: "bash", input: {} });
        await this.#wait(step.ms);
        return this.#emit("tool.finished", {
          id,
          name: "bash",
          output: "",
          exitCode: 0,
          ms: step.ms,
          truncated: false,
        });
      case "talk":
        await this.#wait(step.ms);
        return this.#emit("message", { id, role: "assistant", content: [{ type: "text", text: "Hm." }] });
      case "checkpoint":
        await this.#wait(step.ms);
        return await this.#checkpoint(spec);
      case "model":
        return await this.#askModel();
      case "ask":
        if (this.#answers.has(step.id)) return;
        await this.#checkpoint(spec);
        this.#emit("question", { id: step.id, question: "Which?", options: null });
        await this.#flush();
        return await this.#answered(step.id);
    }
  }

  async #checkpoint(spec: WorkerSpec): Promise<void> {
    await this.#commit(spec.checkpointRef);
    this.#emit("checkpoint", { sha: this.#tip, cursor: null, files: 1, additions: 1, deletions: 0 });
  }

  /** A commit in the task's repository, which the coordinator serves. */
  async #commit(ref: string): Promise<void> {
    const { upstream, sandbox } = this.#deps;
    this.#tip = await this.#retry(async ({ callbacks }) => {
      await callbacks.egress.policy(sandbox.taskId, sandbox.attempt);
      return upstream.work(sandbox.taskId, ref, this.#tip);
    });
  }

  async #askModel(): Promise<void> {
    const { sandbox, time } = this.#deps;
    const { taskId, attempt } = sandbox;
    for (;;) {
      const isAnswered = await this.#retry(async ({ callbacks, domain }) => {
        try {
          const admission = await callbacks.model.admit(taskId, attempt, MODEL, 0.01);
          await time.wait(domain, MODEL_MS);
          const counts = { inputTokens: 1, outputTokens: 1, cacheReadTokens: 0, cacheWriteTokens: 0 };
          await admission.settle({ ...counts, model: MODEL, usd: 0.02, estimated: false });
          return true;
        } catch (error) {
          if (error instanceof SlipwayError && error.code === "budget_exceeded") return false;
          throw error;
        }
      });
      if (isAnswered) return;
      const standing = await this.#retry(({ callbacks }) => callbacks.worker.budget(taskId, attempt));
      if (standing.state === "asked") await this.#answered(standing.questionId);
      if (standing.state !== "stop") continue;
      this.#deps.onMisdeed("reports_failure");
      this.#emit("failed", { code: "budget_exceeded", message: standing.reason, evidence: null });
      await this.#flush();
      throw new Exit(WORKER_EXIT.reported);
    }
  }

  async #answered(id: string): Promise<void> {
    while (!this.#answers.has(id) && this.#cancel === null) await this.#changed();
  }

  async #windDown(): Promise<void> {
    await this.#wait(Math.min(this.#cancel ?? 0, 500));
    await this.#flush();
  }

  async #misbehave(misdeed: Misdeed): Promise<void> {
    const { onMisdeed, domain, sandbox } = this.#deps;
    onMisdeed(misdeed);
    switch (misdeed) {
      case "reports_failure":
        this.#emit("failed", { code: "agent_error", message: "No.", evidence: null });
        await this.#flush();
        throw new Exit(WORKER_EXIT.reported);
      case "exits":
        throw new Exit(7);
      case "out_of_memory":
        throw new Exit(137);
      case "dies":
        domain.end();
        return await this.#forever();
      case "falls_silent":
      case "never_ready":
        return await this.#forever(false);
      case "overruns":
        await this.#forever(true, sandbox.attempt % 2 === 1 ? this.#endAt : Infinity);
        // Some do not even notice that their time is over.
        this.#emit("failed", { code: "deadline_exceeded", message: "", evidence: null });
        await this.#flush();
        throw new Exit(WORKER_EXIT.reported);
    }
  }

  async #forever(talks = false, until = Infinity): Promise<void> {
    while (this.#deps.time.now < until) {
      await this.#wait(5_000);
      if (talks) this.#emit("message", { id: "m", role: "assistant", content: [{ type: "text", text: "Still." }] });
      if (this.#cancel !== null) throw new Exit(WORKER_EXIT.reported);
    }
  }

  #deliverMessages(): void {
    for (const id of this.#messages.splice(0)) this.#emit("message.status", { id, status: "delivered" });
  }

  async #poll(commandsAfter: number): Promise<void> {
    const { sandbox, pollMs } = this.#deps;
    for (let after = commandsAfter; this.#exit === null;) {
      try {
        const from = after;
        const commands = await this.#retry(({ callbacks }, signal) =>
          callbacks.worker.commands(sandbox.taskId, sandbox.attempt, from, pollMs, signal),
        );
        for (const command of commands) this.#take(command);
        after = Math.max(after, ...commands.map(({ id }) => id));
      } catch (error) {
        if (error instanceof Exit) return;
        throw error;
      }
    }
  }

  #take(command: WorkerCommand): void {
    if (command.type === "message") this.#messages.push(command.messageId);
    if (command.type === "withdraw" && this.#messages.includes(command.messageId))
      this.#messages.splice(this.#messages.indexOf(command.messageId), 1);
    if (command.type === "answer") this.#answers.set(command.questionId, command.text);
    if (command.type === "cancel") this.#cancel = command.graceMs;
    this.#wake();
  }

  #emit(type: WorkerEventType, data: EventData): void {
    const at = new Date(this.#deps.time.now).toISOString();
    this.#journal.push({ seq: (this.#seq += 1), at, type, data: { ...data } });
    if (!this.#isSending) void this.#send();
  }

  async #send(): Promise<void> {
    const { sandbox } = this.#deps;
    this.#isSending = true;
    try {
      while (this.#acked < this.#seq) {
        const events = this.#journal.slice(this.#acked, this.#acked + BATCH);
        const batch = { attempt: sandbox.attempt, events };
        const { ack } = await this.#retry(({ callbacks }) => callbacks.worker.accept(sandbox.taskId, batch, 100));
        this.#acked = Math.max(this.#acked, ack);
        this.#wake();
      }
    } catch (error) {
      if (error instanceof SequenceGap) this.#acked = error.ack;
      else if (!(error instanceof Exit)) throw error;
    } finally {
      this.#isSending = false;
    }
    if (this.#acked < this.#seq && this.#exit === null) void this.#send();
  }

  async #flush(): Promise<void> {
    while (this.#acked < this.#seq) await this.#changed();
  }

  /** Until something has arrived. */
  async #changed(): Promise<void> {
    this.#assertRunning();
    await new Promise<void>((resolve) => (this.#wake = resolve));
    this.#assertRunning();
  }

  async #wait(ms: number): Promise<void> {
    this.#assertRunning();
    await this.#deps.time.wait(this.#deps.domain, ms);
    this.#assertRunning();
  }

  /** @throws Exit. */
  #assertRunning(): void {
    const exit = this.#exit;
    if (exit instanceof Exit) throw exit;
  }

  /** Repeats a request until it is answered. @throws Exit when the attempt is over. */
  async #retry<T>(request: Request<T>): Promise<T> {
    const { wire, dice, time } = this.#deps;
    for (let tries = 0; ; tries += 1) {
      this.#assertRunning();
      try {
        const value = await wire.call(request);
        this.#lastAnswerAt = time.now;
        return value;
      } catch (error) {
        if (error instanceof SequenceGap) throw error;
        if (error instanceof SlipwayError && error.code === "stale_attempt") throw this.#end(WORKER_EXIT.stale);
        if (error instanceof Exit) throw error;
        if (!(error instanceof Unreachable)) this.#lastAnswerAt = time.now;
        if (time.now - this.#lastAnswerAt > this.#abandonMs) throw this.#end(WORKER_EXIT.lost);
      }
      await this.#wait(dice.int(20, Math.min(3_000, 100 * 2 ** tries)));
    }
  }

  #end(exitCode: number): Exit {
    this.#exit ??= new Exit(exitCode);
    this.#wake();
    return this.#exit;
  }
}
