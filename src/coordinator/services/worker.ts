/**
 * The server side of the worker protocol. Workers are not trusted: each call passes the fence of
 * its attempt (rule T6), and events are checked before they are recorded (rules W1, W3).
 */
import { holdsSlot } from "../../../machines/fold.ts";
import { remainingBudget, type BudgetStanding } from "../../core/budget.ts";
import { pollCommands } from "./worker/commands.ts";
import { readConversation } from "./worker/conversation.ts";
import { timeLimit } from "../../../machines/time-limit.ts";
import type { TaskLog } from "../task-log.ts";
import { failureProposal } from "../effects/failure-proposal.ts";
import { SequenceGap, SlipwayError } from "../../core/error.ts";
import type { Redactor } from "../../core/lib/json/redaction.ts";
import type { Proposal } from "../../core/event.ts";
import type { Store } from "../../core/ports/store.ts";
import type { OpenedSetup, SetupSaved } from "../../core/ports/files/setup-caches.ts";
import type { SetupDisk, SetupDiskPlace } from "../../core/ports/sandbox.ts";
import { MODEL_AGENTS, sandboxName, type Egress, type Task } from "../../core/task.ts";
import {
  TRANSCRIPT_PAGE_BYTES,
  RECORD_BYTES,
  TRANSCRIPT_BYTES,
  TranscriptMoved,
  type StoredRecord,
} from "../../core/ports/records/transcripts.ts";
import { NO_SETTINGS, resolveCommands, readRepositorySettings } from "./repositories/repository-settings.ts";
import {
  TEXT_ENDS,
  type TranscriptAppend,
  type WorkerAck,
  type WorkerBatch,
  type WorkerCommand,
  type WorkerSpec,
  type WorkerVariables,
} from "../../core/protocol/worker.ts";
import type { AgentPrograms } from "../../core/values/agent-program.ts";
import type { Finding } from "../../core/values/push-guard.ts";
import type { Bus, Clock, Ids } from "../../core/ports/runtime.ts";
import { checkpointRef, WORK_REF, type Repositories } from "../../core/ports/repositories.ts";
import type { WorkerApi } from "../../core/ports/broker.ts";
import type { Attachments, OpenedAttachment } from "../../core/ports/files/attachments.ts";
import { toWorkerFiles } from "./tasks/attachments.ts";
import { assertCurrentAttempt, staleAttempt } from "./current-attempt.ts";
import { toProposal, type WorkerEventDeps } from "./worker/events.ts";
import { readCheckoutStart } from "./worker/checkout-start.ts";
import { readIdentities, type IdentityDeps } from "./worker/identities.ts";
import { SetupCacheService, type SetupCacheDeps } from "./worker/setup-cache.ts";
import type { AttemptVariables } from "./worker/variables.ts";

export interface WorkerServiceDeps extends IdentityDeps, SetupCacheDeps {
  readonly taskLog: TaskLog;
  readonly store: Store;
  readonly bus: Bus;
  readonly repos: Repositories;
  readonly variables: AttemptVariables;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly abandonMs: number;
  /** The budget of the task after the gateway refused it a request. */
  standing(task: Task): Promise<BudgetStanding>;
  /** What the setup of the attempt may reach; null = it has none. */
  setupEgress(task: Task): Promise<Egress | null>;
  /** Models that tasks may use; none = the gateway is off. */
  readonly models: readonly string[];
  /** The built-in agent's conversations are summarized at so many tokens; absent = by the model. */
  readonly compactAt?: number;
  /** The model that continues a task when its own declined; absent = none. */
  readonly fallbackModel?: string;
  /** Agents that are programs in the worker's image. */
  readonly programs: AgentPrograms;
  readonly attachments?: Attachments;
}

export interface WorkerService extends WorkerApi {
  /**
   * Time of the attempt's last call on the monotonic clock; null = none in this process.
   */
  lastSeen(taskId: string, attempt: number): number | null;
  /** See SetupCacheService. */
  hasSetupDisks(task: Task): Promise<boolean>;
  /** Gives up what is made beside the tasks. */
  close(): Promise<void>;
  /** See SandboxSpec.findSetupDisk. */
  findSetupDisk(taskId: string, attempt: number, place: SetupDiskPlace): Promise<SetupDisk | null>;
}

/** Between two signs of life while a tool runs, ms, and how many fit into the limit of silence. */
const SIGN_MS = 60_000;
const SIGNS_PER_SILENCE = 3;
/** Time that a worker gets to save its work before the attempt's wall clock ends, ms. */
const WIND_DOWN_MS = 15_000;
/** Each may cost seconds of a core. */
const INSPECTIONS = 20;
/**
 * Most bytes of event batches of one attempt, counted anew after a restart of the coordinator. The
 * log is never deleted, and all tasks share its disk.
 */
const LOG_LIMIT = 128 * 2 ** 20;

/** What this process knows of a connected worker. */
interface Contact {
  readonly attempt: number;
  /** On the monotonic clock. */
  readonly seenAt: number;
  readonly bytes: number;
}

/** Fields whose texts a worker may have cut. It does not know the secrets of the setup. */
const CUT: ReadonlySet<string> = new Set(["evidence", "output", "tail"]);

/** Its type decides which fields an event has, so only what they hold is changed. */
function redactEvent(redactor: Redactor, event: WorkerBatch["events"][number]): WorkerBatch["events"][number] {
  return { ...event, data: redactor.redactValue(event.data, CUT) };
}

export function createWorkerService(deps: WorkerServiceDeps): WorkerService {
  return new AttemptWorkerService(deps);
}

class AttemptWorkerService implements WorkerService {
  readonly #deps: WorkerServiceDeps;
  readonly #eventDeps: WorkerEventDeps;
  readonly #setups: SetupCacheService;
  /** By task. */
  readonly #contacts = new Map<string, Contact>();
  /** By task: the calls of one attempt. */
  readonly #inspections = new Map<string, { readonly key: string; readonly calls: number }>();

  constructor(deps: WorkerServiceDeps) {
    this.#deps = deps;
    this.#setups = new SetupCacheService(deps);
    // Programs report the costs of subscriptions of their own, scripts what their steps say.
    const usesGateway = ({ spec }: Task): boolean => (MODEL_AGENTS as readonly string[]).includes(spec.agent);
    this.#eventDeps = { ...deps, countsUsage: (task) => deps.models.length > 0 && usesGateway(task) };
    deps.taskLog.onCommit((task) => {
      if (holdsSlot(task.snapshot)) return;
      this.#contacts.delete(task.id);
      this.#inspections.delete(task.id);
    });
  }

  async spec(taskId: string, attempt: number, signal: AbortSignal): Promise<WorkerSpec> {
    const { store, repos, sandbox, programs, models, abandonMs, compactAt, fallbackModel } = this.#deps;
    const task = await this.#repositoryReady(taskId, attempt, signal);
    const { base, baseSha, workerSeq, policy } = task.snapshot.context;
    const { agent } = task.spec;
    const limitMs = timeLimit(task.snapshot.context);
    const program = Object.hasOwn(programs, agent) ? programs[agent] : undefined;
    const isAllowed = sandbox.runsRepositoryCommands?.(sandboxName(taskId, attempt)) ?? true;
    const settings = isAllowed ? await readRepositorySettings(repos, taskId, baseSha) : NO_SETTINGS;
    const setupEgress = isAllowed ? await this.#deps.setupEgress(task) : null;
    const { answers, delivered, commandsAfter, notes, by } = await readConversation(store, task);
    return {
      taskId,
      attempt,
      prompt: task.spec.prompt,
      ...toWorkerFiles(task.spec),
      agent,
      model: task.spec.model,
      effort: task.spec.effort,
      gateway: models.length > 0 ? "open" : "none",
      egress: task.spec.egress,
      ...(setupEgress === null ? {} : { setupEgress }),
      ...(this.#setups.count(settings.config) === 0 ? {} : { setupCache: this.#setups.count(settings.config) }),
      ...(setupEgress !== null && (await this.#deps.variables.hasAny(task)) ? { setupVariables: true } : {}),
      ...(compactAt === undefined ? {} : { compactAt }),
      ...(fallbackModel === undefined ? {} : { fallbackModel }),
      ...(task.spec.reviewModel === undefined ? {} : { reviewModel: task.spec.reviewModel }),
      ...(program === undefined ? {} : { program }),
      script: task.spec.script === null ? null : [...task.spec.script],
      ...resolveCommands(task.spec, settings.config),
      budget: remainingBudget(task),
      base: base ?? task.spec.base ?? "main",
      baseSha: baseSha ?? "",
      workRef: WORK_REF,
      checkpointRef: checkpointRef(attempt),
      transcript: await store.lastRecord(taskId),
      ...(await readCheckoutStart(repos, task)),
      commit: await readIdentities(this.#deps, by ?? task.userId),
      ...(notes.length === 0 ? {} : { notes }),
      answers,
      delivered,
      commandsAfter,
      ack: workerSeq,
      abandonMs,
      // Shorter than the coordinator's own deadline, so that the worker can still save its work.
      wallMs: limitMs - Math.min(WIND_DOWN_MS, limitMs / 10),
      signMs: Math.min(SIGN_MS, policy.silenceMs / SIGNS_PER_SILENCE),
    };
  }

  async variables(taskId: string, attempt: number): Promise<WorkerVariables> {
    return await this.#deps.variables.give(await this.#current(taskId, attempt));
  }

  async openSetup(taskId: string, attempt: number, signal: AbortSignal): Promise<OpenedSetup | null> {
    return await this.#setups.open(await this.#current(taskId, attempt), signal);
  }

  async saveSetup(
    taskId: string,
    attempt: number,
    content: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<SetupSaved> {
    const newest = (): Promise<Task> => this.#current(taskId, attempt);
    return await this.#setups.save(await newest(), content, newest, signal);
  }

  close(): Promise<void> {
    return this.#setups.close();
  }

  hasSetupDisks(task: Task): Promise<boolean> {
    return this.#setups.hasDisks(task);
  }

  async findSetupDisk(taskId: string, attempt: number, place: SetupDiskPlace): Promise<SetupDisk | null> {
    return await this.#setups.findDisk(await this.#current(taskId, attempt), place);
  }

  async accept(taskId: string, batch: WorkerBatch, bytes: number): Promise<WorkerAck> {
    const { taskLog, variables } = this.#deps;
    const { attempt, deltas = [] } = batch;
    const task = await this.#current(taskId, attempt);
    const redactor = await variables.redactor(task);
    const events = redactor === null ? batch.events : batch.events.map((event) => redactEvent(redactor, event));
    if (events.length === 0) {
      this.#publishDeltas(task, deltas);
      return { ack: task.snapshot.context.workerSeq, commands: task.state === "cancelling" };
    }
    const fresh = events.filter(({ seq }) => seq > task.snapshot.context.workerSeq);
    if (fresh.length > 0) await this.#countBytes(task, attempt, bytes);
    const proposals = new Map<number, Proposal>();
    for (const event of fresh) proposals.set(event.seq, await toProposal(this.#eventDeps, task, attempt, event));
    const { task: after } = await taskLog.record(taskId, async (now): Promise<Proposal[]> => {
      this.#touch(now, attempt);
      const last = now.snapshot.context.workerSeq;
      const unrecorded = events.filter((event) => event.seq > last);
      const first = unrecorded[0];
      if (first !== undefined && first.seq !== last + 1) throw new SequenceGap(last);
      // A person may take a message back until this record.
      for (const event of unrecorded.filter(({ type }) => type === "message.status"))
        proposals.set(event.seq, await toProposal(this.#eventDeps, now, attempt, event));
      return unrecorded.flatMap((event) => proposals.get(event.seq) ?? []);
    });
    const ended = new Set(events.flatMap(({ type, data }) => (TEXT_ENDS.has(type) ? [data["id"]] : [])));
    this.#publishDeltas(
      after,
      deltas.filter(({ messageId }) => !ended.has(messageId)),
    );
    // A batch that ended the attempt is acknowledged whole: none of it is needed again.
    const isOver = !holdsSlot(after.snapshot) || after.snapshot.context.attempt !== attempt;
    const ack = isOver ? (events.at(-1)?.seq ?? 0) : after.snapshot.context.workerSeq;
    return { ack, commands: after.state === "cancelling" };
  }

  #publishDeltas({ id: taskId, userId }: Task, deltas: NonNullable<WorkerBatch["deltas"]>): void {
    const { bus, variables } = this.#deps;
    for (const { messageId, text } of deltas)
      bus.publishDelta({ taskId, userId, messageId, text: variables.redactDelta(taskId, messageId, text) });
  }

  async append(taskId: string, { n, attempt, record }: TranscriptAppend): Promise<void> {
    const redactor = await this.#deps.variables.redactor(await this.#current(taskId, attempt));
    const json = JSON.stringify(redactor === null ? record : redactor.redactValue<unknown>(record));
    if (Buffer.byteLength(json) > RECORD_BYTES)
      throw new SlipwayError(
        "payload_too_large",
        `A record holds at most ${RECORD_BYTES} bytes. Cut its content before it is written.`,
      );
    const result = await this.#deps.store.appendRecord({ taskId, n, attempt, json });
    switch (result.kind) {
      case "appended":
      case "known":
        return;
      case "elsewhere":
        throw new TranscriptMoved(result.last);
      case "stale":
        throw staleAttempt();
      case "full":
        throw new SlipwayError(
          "transcript_full",
          `It holds ${TRANSCRIPT_BYTES} bytes. Go on in a new task that starts from the saved work.`,
        );
    }
  }

  async transcript(taskId: string, attempt: number, after: number): Promise<readonly StoredRecord[]> {
    await this.#current(taskId, attempt);
    return await this.#deps.store.records(taskId, after, TRANSCRIPT_PAGE_BYTES);
  }

  async budget(taskId: string, attempt: number): Promise<BudgetStanding> {
    return await this.#deps.standing(await this.#current(taskId, attempt));
  }

  async attachment(taskId: string, attempt: number, id: string): Promise<OpenedAttachment> {
    await this.#current(taskId, attempt);
    const { attachments } = this.#deps;
    const found = (await attachments?.isGiven(id, taskId)) === true ? await attachments?.open(id) : null;
    if (!found) throw new SlipwayError("not_found", "This task has no such attachment.");
    return found;
  }

  async inspect(taskId: string, attempt: number, sha: string, signal: AbortSignal): Promise<readonly Finding[]> {
    const { repos, variables } = this.#deps;
    const task = await this.#current(taskId, attempt);
    const { baseSha } = task.snapshot.context;
    const key = `${taskId} ${attempt}`;
    const calls = (this.#inspections.get(taskId)?.key === key ? this.#inspections.get(taskId)?.calls : 0) ?? 0;
    this.#inspections.set(taskId, { key, calls: calls + 1 });
    if (baseSha === null || calls >= INSPECTIONS || !(await repos.has(taskId, sha))) return [];
    try {
      return await repos.inspect(taskId, baseSha, sha, signal, await variables.secrets(task));
    } catch (error) {
      // The push is looked at again; the agent does not wait for that.
      if (signal.aborted) throw error;
      return [];
    }
  }

  commands(
    taskId: string,
    attempt: number,
    after: number,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<WorkerCommand[]> {
    return pollCommands(this.#deps, {
      taskId,
      after,
      waitMs,
      signal,
      task: () => this.#current(taskId, attempt),
    });
  }

  lastSeen(taskId: string, attempt: number): number | null {
    const contact = this.#contacts.get(taskId);
    return contact?.attempt === attempt ? contact.seenAt : null;
  }

  /** The newest task, after the fence. */
  async #current(taskId: string, attempt: number): Promise<Task> {
    const task = await this.#deps.taskLog.task(taskId);
    this.#touch(task, attempt);
    return task;
  }

  /** Notes a sign of life of the attempt. @throws SlipwayError `stale_attempt`. */
  #touch(task: Task | null, attempt: number): asserts task is Task {
    assertCurrentAttempt(task, attempt);
    const last = this.#contacts.get(task.id);
    const bytes = last?.attempt === attempt ? last.bytes : 0;
    this.#contacts.set(task.id, { attempt, seenAt: this.#deps.clock.monotonic(), bytes });
  }

  /** Ends an attempt that has sent more than `LOG_LIMIT`. */
  async #countBytes(task: Task, attempt: number, bytes: number): Promise<void> {
    const contact = this.#contacts.get(task.id);
    if (contact === undefined) return;
    const total = contact.bytes + bytes;
    this.#contacts.set(task.id, { ...contact, bytes: total });
    if (total <= LOG_LIMIT) return;
    const { taskLog, ids } = this.#deps;
    const detail = `It sent more than ${LOG_LIMIT / 2 ** 20} MiB of events.`;
    await taskLog.record(task.id, () => [{ ...failureProposal("agent_stuck", ids.random(), { detail }), attempt }]);
    throw new SlipwayError("stale_attempt", detail);
  }

  /**
   * The task once its repository is there: the sandbox is prepared in parallel, and its worker may
   * be faster.
   */
  async #repositoryReady(taskId: string, attempt: number, signal: AbortSignal): Promise<Task> {
    for (;;) {
      let wake = (): void => undefined;
      const changed = new Promise<void>((resolve) => (wake = resolve));
      const unsubscribe = this.#deps.taskLog.onCommit((task) => {
        if (task.id === taskId) wake();
      });
      signal.addEventListener("abort", wake, { once: true });
      try {
        const task = await this.#current(taskId, attempt);
        const { steps } = task.snapshot.context;
        if (task.state !== "provisioning" || steps.some(({ name, endedAt }) => name === "mirror" && endedAt !== null))
          return task;
        await changed;
        signal.throwIfAborted();
      } finally {
        unsubscribe();
        signal.removeEventListener("abort", wake);
      }
    }
  }
}
