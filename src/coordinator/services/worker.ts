/**
 * The verbs behind the worker protocol. What a worker says is untrusted: it is parsed, its commits
 * are looked up in the task repository, and its attempt is the fence (rules W1, W3, T6).
 */
import { holdsSlot } from "../../../machines/fold.ts";
import { remainingBudget, type BudgetStanding } from "../../core/budget.ts";
import { answerText, pollCommands, messageText } from "./worker-commands.ts";
import type { TaskLog } from "../task-log.ts";
import { failureProposal } from "../effects/effects.ts";
import { SequenceGap, SlipwayError } from "../../core/error.ts";
import { WORKER_DATA, type Proposal, type WorkerEventType } from "../../core/event.ts";
import { WORKER_FAILURES, type FailureCode } from "../../core/failure.ts";
import { readLogWithoutWorker } from "../reading.ts";
import { type Store } from "../../core/ports/store.ts";
import type { Task } from "../../core/task.ts";
import {
  TRANSCRIPT_PAGE_BYTES,
  RECORD_BYTES,
  TRANSCRIPT_BYTES,
  TranscriptMoved,
  type StoredRecord,
} from "../../core/ports/transcripts.ts";
import { resolveCommands, readRepositorySettings } from "./repository-settings.ts";
import {
  DELIVERED,
  type WorkerAck,
  type WorkerBatch,
  type WorkerEvent,
  type WorkerSpec,
} from "../../core/protocol/worker.ts";
import type { Bus, Clock, Ids } from "../../core/ports/runtime.ts";
import { checkpointRef, WORK_REF, type Repositories } from "../../core/ports/repositories.ts";
import type { WorkerApi } from "../../core/ports/broker.ts";

export interface WorkerServiceDeps {
  readonly taskLog: TaskLog;
  readonly store: Store;
  readonly bus: Bus;
  readonly repos: Repositories;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly abandonMs: number;
  /** Where the task stands after the gateway refused it a request. */
  standing(task: Task): Promise<BudgetStanding>;
  /** Models that tasks may use; none = there is no gateway. */
  readonly models: readonly string[];
  /** Agents that are programs: name -> shell command. */
  readonly acpCommands: Readonly<Record<string, string>>;
}

export interface WorkerService extends WorkerApi {
  /** When the worker of this attempt last spoke, epoch ms; null = not since this process began. */
  lastSeen(taskId: string, attempt: number): number | null;
}

const LAST_WORDS_MS = 15_000;
/**
 * What one attempt may add to the log, in characters of JSON; counted anew by a restarted
 * coordinator.
 */
const LOG_LIMIT = 128 * 2 ** 20;

export function createWorkerService(deps: WorkerServiceDeps): WorkerService {
  const { taskLog, store, bus, repos, clock } = deps;
  const seen = new Map<string, { attempt: number; at: number; said: number }>();
  taskLog.onCommit((task) => {
    if (!holdsSlot(task.snapshot)) seen.delete(task.id);
  });

  function current(task: Task | null, attempt: number): Task {
    if (task === null || task.snapshot.context.attempt !== attempt || !holdsSlot(task.snapshot)) {
      throw stale();
    }
    const last = seen.get(task.id);
    seen.set(task.id, { attempt, at: clock.now(), said: last?.attempt === attempt ? last.said : 0 });
    return task;
  }

  /**
   * Ends an attempt that says too much: the log is kept for ever, and on the disk that all tasks
   * share.
   */
  async function bound(task: Task, attempt: number, news: readonly WorkerEvent[]): Promise<void> {
    const entry = seen.get(task.id);
    if (entry === undefined) return;
    entry.said += news.reduce((total, { data }) => total + JSON.stringify(data).length, 0);
    if (entry.said <= LOG_LIMIT) return;
    const detail = `It sent more than ${LOG_LIMIT / 2 ** 20} MiB of events.`;
    await taskLog.record(task.id, () => [
      { ...failureProposal("agent_stuck", deps.ids.random(), { detail }), attempt },
    ]);
    throw new SlipwayError("stale_attempt", detail);
  }

  /** A worker may be there before its repository: both are prepared at the same time. */
  async function begun(taskId: string, attempt: number, signal: AbortSignal): Promise<Task> {
    for (;;) {
      let wake = (): void => undefined;
      const news = new Promise<void>((resolve) => (wake = resolve));
      const off = taskLog.onCommit((task) => {
        if (task.id === taskId) wake();
      });
      signal.addEventListener("abort", wake, { once: true });
      try {
        const task = current(await taskLog.task(taskId), attempt);
        const { steps } = task.snapshot.context;
        if (task.state !== "provisioning" || steps.some(({ name, endedAt }) => name === "mirror" && endedAt !== null))
          return task;
        await news;
        signal.throwIfAborted();
      } finally {
        off();
        signal.removeEventListener("abort", wake);
      }
    }
  }

  async function spec(taskId: string, attempt: number, signal: AbortSignal): Promise<WorkerSpec> {
    const task = await begun(taskId, attempt, signal);
    const c = task.snapshot.context;
    const answers: Record<string, string> = {};
    const delivered: { id: string; text: string }[] = [];
    let before = task.seq;
    if (task.seq > 1) {
      for await (const { type, seq, data } of readLogWithoutWorker(store, taskId, 0)) {
        if (type === "answer") answers[String(data["questionId"])] = answerText(data);
        const message = type === "message" ? await store.message(taskId, String(data["id"])) : null;
        if (message?.status === "queued") before = Math.min(before, seq - 1);
        if (message?.status === "delivered") delivered.push({ id: message.id, text: messageText(message) });
        if (delivered.length > DELIVERED) delivered.shift();
      }
    }
    const saved = c.checkpoint;
    const acpCommand = Object.hasOwn(deps.acpCommands, task.spec.agent) ? deps.acpCommands[task.spec.agent] : undefined;
    const settings = await readRepositorySettings(repos, taskId, c.baseSha);
    return {
      taskId,
      attempt,
      prompt: task.spec.prompt,
      agent: task.spec.agent,
      model: task.spec.model,
      effort: task.spec.effort,
      gateway: deps.models.length > 0 ? "open" : "none",
      ...(acpCommand === undefined ? {} : { acpCommand }),
      script: task.spec.script === null ? null : [...task.spec.script],
      ...resolveCommands(task.spec, settings.config),
      budget: remainingBudget(task),
      base: c.base ?? task.spec.base ?? "main",
      baseSha: c.baseSha ?? "",
      workRef: WORK_REF,
      checkpointRef: checkpointRef(attempt),
      transcript: await store.lastRecord(taskId),
      resume: saved !== null && (await repos.has(taskId, saved.sha)) ? saved : null,
      answers,
      delivered,
      commandsAfter: before,
      ack: c.workerSeq,
      // A little less than our own deadline, so that the worker still saves its work before we end
      // it.
      abandonMs: deps.abandonMs,
      wallMs: c.policy.wallMs - Math.min(LAST_WORDS_MS, c.policy.wallMs / 10),
    };
  }

  async function accept(taskId: string, batch: WorkerBatch): Promise<WorkerAck> {
    const { attempt, events } = batch;
    const task = current(await taskLog.task(taskId), attempt);
    for (const delta of batch.deltas ?? []) bus.publishDelta({ taskId, userId: task.userId, ...delta });
    if (events.length === 0) return { ack: task.snapshot.context.workerSeq, commands: task.state === "cancelling" };
    const unheard = events.filter(({ seq }) => seq > task.snapshot.context.workerSeq);
    await bound(task, attempt, unheard);
    const proposals = new Map<number, Proposal>();
    for (const event of unheard) proposals.set(event.seq, await propose(task, attempt, event));
    const { task: now } = await taskLog.record(taskId, (fresh) => {
      const last = current(fresh, attempt).snapshot.context.workerSeq;
      const news = events.filter((event) => event.seq > last);
      const first = news[0];
      if (first !== undefined && first.seq !== last + 1) throw new SequenceGap(last);
      return news.flatMap((event) => proposals.get(event.seq) ?? []);
    });
    // A batch that ended the attempt is acknowledged whole: nothing of it will be asked for again.
    const over = !holdsSlot(now.snapshot) || now.snapshot.context.attempt !== attempt;
    const ack = over ? (events.at(-1)?.seq ?? 0) : now.snapshot.context.workerSeq;
    return { ack, commands: now.state === "cancelling" };
  }

  /** The worker's event in our words, after our own look at the facts. */
  async function propose(task: Task, attempt: number, event: WorkerEvent): Promise<Proposal> {
    const data = parse(event.type, event.data);
    const stamp = { attempt, workerSeq: event.seq };
    const notice = (code: string, text: string): Proposal => ({
      type: "notice",
      data: { level: "warning", code, text },
      ...stamp,
    });
    switch (event.type) {
      case "ready":
        return { type: "task.state", data: { reason: "ready" }, ...stamp };
      case "failed": {
        const code = String(data["code"]);
        const known = WORKER_FAILURES.has(code);
        const detail = known ? String(data["message"]) : `${code}: ${String(data["message"])}`;
        const evidence = data["evidence"] === null ? null : String(data["evidence"]);
        return {
          ...failureProposal(known ? (code as FailureCode) : "agent_error", deps.ids.random(), { detail, evidence }),
          ...stamp,
        };
      }
      case "finished":
        return { ...(await finished(task, data)), ...stamp };
      case "checkpoint":
        if (await repos.has(task.id, String(data["sha"]))) return { type: "checkpoint", data, ...stamp };
        return notice("checkpoint_missing", "The worker named a checkpoint that is not in the task repository.");
      case "message.status": {
        const message = await store.message(task.id, String(data["id"]));
        if (message?.status === "withdrawn")
          return notice("message_withdrawn", "The message was taken back before it was delivered.");
        return { type: "message.status", data, ...stamp };
      }
      case "task.step":
      case "message":
      case "tool.started":
      case "tool.finished":
      case "todo":
      case "usage":
      case "question":
      case "notice":
      case "verify":
        return { type: event.type, data, ...stamp };
    }
  }

  async function finished(task: Task, data: Record<string, unknown>): Promise<Proposal> {
    const sha = String(data["sha"]);
    const { baseSha } = task.snapshot.context;
    if (sha !== baseSha && (await repos.resolve(task.id, WORK_REF)) !== sha) {
      return failureProposal("agent_error", deps.ids.random(), {
        detail: "The reported commit is not in the task repository.",
      });
    }
    return {
      type: "task.state",
      data: {
        reason: "finished",
        sha,
        changed: sha !== baseSha,
        title: String(data["title"]),
        summary: String(data["summary"]),
      },
    };
  }

  async function append(taskId: string, record: StoredRecord): Promise<void> {
    current(await taskLog.task(taskId), record.attempt);
    if (Buffer.byteLength(record.json) > RECORD_BYTES)
      throw new SlipwayError(
        "payload_too_large",
        `A record holds at most ${RECORD_BYTES} bytes. Cut what is in it before it is written.`,
      );
    const result = await store.appendRecord({ taskId, ...record });
    switch (result.kind) {
      case "appended":
      case "known":
        return;
      case "elsewhere":
        throw new TranscriptMoved(result.last);
      case "stale":
        throw stale();
      case "full":
        throw new SlipwayError(
          "transcript_full",
          `It holds ${TRANSCRIPT_BYTES} bytes. Go on in a new task that starts from the saved work.`,
        );
    }
  }

  return {
    spec,
    accept,
    append,
    budget: async (taskId, attempt) => deps.standing(current(await taskLog.task(taskId), attempt)),
    async transcript(taskId, attempt, after) {
      current(await taskLog.task(taskId), attempt);
      return await store.records(taskId, after, TRANSCRIPT_PAGE_BYTES);
    },
    commands: (taskId, attempt, after, waitMs, signal) =>
      pollCommands(deps, {
        taskId,
        after,
        waitMs,
        signal,
        task: async () => current(await taskLog.task(taskId), attempt),
      }),
    lastSeen(taskId, attempt) {
      const last = seen.get(taskId);
      return last !== undefined && last.attempt === attempt ? last.at : null;
    },
  };
}

const stale = (): SlipwayError =>
  new SlipwayError("stale_attempt", "This attempt is over. Stop, and push nothing more.");

function parse(type: WorkerEventType, data: unknown): Record<string, unknown> {
  const result = WORKER_DATA[type].safeParse(data);
  if (result.success) return result.data;
  const errors = result.error.issues.map((issue) => ({ path: issue.path.join("."), message: issue.message }));
  throw new SlipwayError("invalid_request", `The data of a "${type}" event is not valid.`, { errors });
}
