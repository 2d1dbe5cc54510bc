/** The store in memory, for tests and simulations: the same contract without durability. */
import { isOfConversation, type EventRow, type TaskEvent } from "../../core/event.ts";
import type { Accounts, KeyStore, PersonDeletions } from "../../core/ports/accounts.ts";
import type { AuditLog } from "../../core/ports/records/audit.ts";
import type { Notifications } from "../../core/ports/notifications.ts";
import type { UsageLedger } from "../../core/ports/records/usage-ledger.ts";
import { SlipwayError } from "../../core/error.ts";
import type { Page } from "../../core/lib/pagination.ts";
import type {
  Commit,
  ConversationPlace,
  ConversationQuery,
  CreateResult,
  Deletions,
  Direction,
  NewTask,
  ReadMarks,
  Store,
  Tally,
  TallyQuery,
  TaskQuery,
} from "../../core/ports/store.ts";
import type { AppendResult, NewRecord } from "../../core/ports/records/transcripts.ts";
import { isSettledState, TASK_STATES, type Task, type TaskState } from "../../core/task.ts";
import { asRead, getDueAt, isAsking, isRepository, memoryReadMarks, type Entry } from "./entry.ts";
import { before, byId, keyOf, pageFrom, rowPage, toOutline } from "./lists.ts";
import { memoryAudit } from "./audit.ts";
import { memoryKeys } from "./keys.ts";
import { memoryAccounts } from "./accounts.ts";
import { memoryDeletions, type MemoryDeletions } from "./deletions.ts";
import { MemoryPersonDeletions } from "./person-deletions.ts";
import { MemoryNotifications } from "./notifications.ts";
import { MemoryProjections } from "./projections.ts";
import { MemoryQueue } from "./queue.ts";
import { MemoryTranscripts, storedReads, type StoredReads } from "./transcripts.ts";
import { MemoryLedger } from "./usage-ledger.ts";
import { mergeProgress, projectProgress } from "../shared/progress.ts";
import { makeTask, searchableText, toRecentRepositories } from "../shared/task-record.ts";

type Apart = keyof Deletions | keyof PersonDeletions | keyof StoredReads | keyof ReadMarks;
class MemoryStore implements Omit<Store, Apart> {
  readonly deletions: MemoryDeletions;
  readonly marks: ReadMarks;
  readonly people: PersonDeletions;
  readonly stored: StoredReads;
  readonly #ledger: MemoryLedger;
  readonly #entries = new Map<string, Entry>();
  /** Tasks that are not settled. */
  readonly #open = new Map<string, Entry>();
  readonly #keys = new Map<string, { readonly taskId: string; readonly fingerprint: string }>();
  readonly #settings = new Map<string, string>();
  readonly #transcripts = new MemoryTranscripts();
  readonly #queue = new MemoryQueue();
  #rev = 0;
  #closed = false;

  constructor(ledger: MemoryLedger, notifications: MemoryNotifications, people: MemoryPersonDeletions) {
    this.#ledger = ledger;
    const removal = {
      begin: (id: string): void => {
        this.#entries.delete(id);
        this.#transcripts.beginDeletion(id);
        notifications.dropTask(id);
        for (const [key, { taskId }] of this.#keys) if (taskId === id) this.#keys.delete(key);
      },
      end: (id: string): void => this.#transcripts.endDeletion(id),
    };
    this.stored = storedReads(this.#entries, this.#transcripts);
    this.deletions = memoryDeletions(this.#entries, removal, () => ++this.#rev);
    this.marks = memoryReadMarks(this.#entries, () => ++this.#rev);
    this.people = people.methods(this.#entries, {
      drop: (userId) => {
        notifications.dropPerson(userId);
        for (const key of this.#settings.keys()) if (key.includes(userId)) this.#settings.delete(key);
      },
      rename: (userId, alias) => {
        ledger.rename(userId, alias);
        this.deletions.rename(userId, alias);
      },
    });
  }

  async create(task: NewTask): Promise<CreateResult> {
    this.#assertOpen();
    const { id, userId, threadId, parentId, spec, machineVersion, snapshot, state, slot, event, idempotency } = task;
    const key = keyOf(task);
    const known = key === null ? undefined : this.#keys.get(key);
    if (known !== undefined) return this.#replay(known, idempotency?.fingerprint);
    this.#assertFree(id);
    const core = { userId, threadId, parentId, spec, machineVersion, createdAt: event.at, size: 0 };
    const lists = new MemoryProjections();
    const progress = projectProgress([event], userId);
    const stored = makeTask(id, core, snapshot, progress, state, event.seq, ++this.#rev, event.at);
    const entry: Entry = { task: stored, slot, search: searchableText(spec), log: [event], lists };
    lists.apply(event);
    this.#entries.set(id, entry);
    if (!isSettledState(state)) this.#open.set(id, entry);
    if (key !== null && idempotency !== null) this.#keys.set(key, { taskId: id, fingerprint: idempotency.fingerprint });
    if (task.inherits !== null) this.#transcripts.inherit(id, task.inherits);
    this.#queue.add(id, userId, spec.priority, state === "queued");
    return { kind: "created", task: stored };
  }

  #assertFree(id: string): void {
    if (this.#entries.has(id)) throw new SlipwayError("conflict", `Task ${id} already exists.`);
  }

  #replay(
    known: { readonly taskId: string; readonly fingerprint: string },
    fingerprint: string | undefined,
  ): CreateResult {
    const task = known.fingerprint === fingerprint ? this.#entries.get(known.taskId)?.task : undefined;
    return task === undefined ? { kind: "mismatch" } : { kind: "replayed", task };
  }

  async commit(commit: Commit): Promise<Task | null> {
    const { taskId, expectedSeq, events, snapshot, state, slot, usage, followUp } = commit;
    this.#assertOpen();
    const entry = this.#open.get(taskId);
    const last = events.at(-1);
    if (last === undefined) throw new Error(`a commit of ${taskId} has no events`);
    if (entry === undefined || entry.task.seq !== expectedSeq) return null;
    for (const [i, { seq }] of events.entries())
      if (seq !== expectedSeq + 1 + i) throw new Error(`event ${seq} of ${taskId} is out of order`);
    entry.lists.assertNew(events);
    const isFollowUpKnown = followUp !== undefined && this.#keys.has(keyOf(followUp) ?? "");
    if (followUp !== undefined && !isFollowUpKnown) this.#assertFree(followUp.id);
    const progress = mergeProgress(entry.task.progress, projectProgress(events, entry.task.userId));
    const moved = { snapshot, progress, state, seq: last.seq, rev: ++this.#rev, updatedAt: last.at };
    const task: Task = { ...entry.task, ...moved };
    entry.task = task;
    entry.slot = slot;
    for (const event of events) {
      entry.log.push(event);
      entry.lists.apply(event);
      if (event.from === "queued" && event.to === "provisioning") this.#queue.claimed(taskId);
    }
    this.#queue.mark(taskId, state === "queued");
    if (isSettledState(state)) this.#open.delete(taskId);
    if (usage !== undefined) this.#ledger.put(usage);
    if (followUp !== undefined) await this.create(followUp);
    return task;
  }

  setAside(): Promise<[]> {
    return Promise.resolve([]);
  }

  async task(id: string): Promise<Task | null> {
    return this.#entries.get(id)?.task ?? null;
  }

  async tasks({ userId, states, threadId, repo, asking, text, limit, before }: TaskQuery): Promise<Page<Task>> {
    const needle = text?.toLowerCase();
    const found = [...this.#entries.values()]
      .filter(
        ({ task, search }) =>
          (userId === null || task.userId === userId) &&
          (states === undefined || states.includes(task.state)) &&
          (threadId === undefined || task.threadId === threadId) &&
          (repo === undefined || isRepository(task, repo)) &&
          (asking !== true || isAsking(task)) &&
          (before === undefined || task.id < before) &&
          (needle === undefined || search.includes(needle)),
      )
      .map(({ task }) => task)
      .toSorted((a, b) => byId(b, a));
    return pageFrom(found, limit);
  }

  async tally({ userId, repo }: TallyQuery): Promise<Tally> {
    const found = [...this.#entries.values()]
      .map(({ task }) => task)
      .filter(
        (task) => (userId === null || task.userId === userId) && (repo === undefined || isRepository(task, repo)),
      );
    const count = (state: TaskState): number => found.filter((task) => task.state === state).length;
    const byState = Object.fromEntries(TASK_STATES.map((state) => [state, count(state)]));
    return { byState: byState as Record<TaskState, number>, asking: found.filter(isAsking).length };
  }

  async conversation({ userId, threadId, from, direction, limit }: ConversationQuery): Promise<Page<TaskEvent>> {
    const placeOf = ({ taskId, seq }: ConversationPlace): string => `${taskId} ${String(seq).padStart(16, "0")}`;
    const isWanted = (event: TaskEvent): boolean =>
      isOfConversation(event) &&
      (from === undefined || (direction === "up" ? placeOf(event) > placeOf(from) : placeOf(event) < placeOf(from)));
    const found = [...this.#entries.values()]
      .filter(({ task }) => task.threadId === threadId && (userId === null || task.userId === userId))
      .toSorted((a, b) => byId(a.task, b.task))
      .flatMap(({ log }) => log.filter(isWanted));
    return pageFrom(direction === "up" ? found : found.toReversed(), limit);
  }

  async recentRepositories(userId: string, among: number) {
    const own = [...this.#entries.values()].map(({ task }) => task).filter((task) => task.userId === userId);
    const newest = own.toSorted((a, b) => byId(b, a)).slice(0, among);
    return toRecentRepositories(newest.map(({ id, spec }) => ({ id, repo: spec.repo })));
  }

  async changes(userId: string | null, afterRev: number, limit: number, reader?: string): Promise<Page<Task>> {
    const found = [...this.#entries.values()]
      .map((entry) => asRead(entry, reader))
      .filter((task) => task.rev > afterRev && (userId === null || task.userId === userId))
      .toSorted((a, b) => a.rev - b.rev);
    return pageFrom(found, limit);
  }

  async events(taskId: string, afterSeq: number, limit: number, direction?: Direction): Promise<Page<TaskEvent>> {
    if (direction === "down") return pageFrom(before(this.#entries.get(taskId)?.log ?? [], afterSeq), limit);
    return pageFrom(this.#after(taskId, afterSeq), limit);
  }

  /** The log has no gaps: event n is at index n - 1. */
  #after(taskId: string, seq: number): readonly TaskEvent[] {
    return this.#entries.get(taskId)?.log.slice(Math.max(0, seq)) ?? [];
  }

  async eventRows(taskId: string, afterSeq: number, limit: number): Promise<Page<EventRow>> {
    return rowPage(this.#after(taskId, afterSeq), limit);
  }

  async eventsOfOthers(taskId: string, afterSeq: number, limit: number): Promise<Page<TaskEvent>> {
    const found = this.#after(taskId, afterSeq).filter(({ workerSeq }) => workerSeq === null);
    return pageFrom(found, limit);
  }

  async outline(taskId: string, afterSeq: number, limit: number): Promise<Page<TaskEvent>> {
    const calls = this.#entries.get(taskId)?.lists.toolCalls ?? [];
    return pageFrom(toOutline(this.#after(taskId, afterSeq), calls), limit);
  }

  async messages(taskId: string, afterSeq: number, limit: number, direction?: Direction) {
    if (direction === "down") return pageFrom(before(this.#entries.get(taskId)?.lists.messages ?? [], afterSeq), limit);
    const found = this.#entries.get(taskId)?.lists.messages.filter(({ seq }) => seq > afterSeq) ?? [];
    return pageFrom(found, limit);
  }

  async message(taskId: string, messageId: string) {
    return this.#entries.get(taskId)?.lists.message(messageId) ?? null;
  }

  async queuedMessages(taskId: string) {
    return this.#entries.get(taskId)?.lists.queued() ?? [];
  }

  async toolCall(taskId: string, seq: number) {
    return this.#entries.get(taskId)?.lists.toolCalls.find((row) => row.seq === seq) ?? null;
  }

  async toolCalls(taskId: string, afterSeq: number, limit: number, direction?: Direction) {
    if (direction === "down")
      return pageFrom(before(this.#entries.get(taskId)?.lists.toolCalls ?? [], afterSeq), limit);
    const found = this.#entries.get(taskId)?.lists.toolCalls.filter(({ seq }) => seq > afterSeq) ?? [];
    return pageFrom(found, limit);
  }

  async attempts(taskId: string) {
    return [...(this.#entries.get(taskId)?.lists.attempts ?? [])];
  }

  async recordExit(taskId: string, attempt: number, exitCode: number | null): Promise<void> {
    this.#assertOpen();
    this.#entries.get(taskId)?.lists.recordExit(attempt, exitCode);
  }

  async appendRecord(record: NewRecord): Promise<AppendResult> {
    this.#assertOpen();
    const entry = this.#open.get(record.taskId);
    return this.#transcripts.append(
      record,
      entry?.slot === true && entry.task.snapshot.context.attempt === record.attempt,
    );
  }

  async dropTranscript(taskId: string): Promise<void> {
    this.#assertOpen();
    if (this.#open.has(taskId)) throw new Error(`the transcript of the open task ${taskId} cannot be dropped`);
    this.#transcripts.drop(taskId);
  }

  async openIds(): Promise<string[]> {
    return [...this.#open.values()]
      .map(({ task }) => task)
      .toSorted((a, b) => a.createdAt - b.createdAt || byId(a, b))
      .map(({ id }) => id);
  }

  async due(now: number, limit: number): Promise<string[]> {
    return [...this.#open.values()]
      .map((entry) => ({ id: entry.task.id, dueAt: getDueAt(entry) ?? Infinity }))
      .filter(({ dueAt }) => dueAt <= now)
      .toSorted((a, b) => a.dueAt - b.dueAt || byId(a, b))
      .slice(0, limit)
      .map(({ id }) => id);
  }

  async nextDue(): Promise<number | null> {
    let next = Infinity;
    for (const entry of this.#open.values()) next = Math.min(next, getDueAt(entry) ?? Infinity);
    return next === Infinity ? null : next;
  }

  async claimable(limit: number, userLimit: number | null): Promise<string[]> {
    const held = new Map<string, number>();
    for (const { task, slot } of this.#open.values()) if (slot) held.set(task.userId, (held.get(task.userId) ?? 0) + 1);
    return this.#queue.claimable(limit, userLimit, held, (id) => this.#findAhead(id) === null);
  }

  async threadAhead(taskId: string): Promise<string | null> {
    return this.#findAhead(taskId);
  }

  #findAhead(taskId: string): string | null {
    const threadId = this.#open.get(taskId)?.task.threadId;
    const ahead = [...this.#open.values()].filter(({ task }) => task.threadId === threadId && task.id < taskId);
    return ahead.map(({ task }) => task.id).toSorted()[0] ?? null;
  }

  async positions(taskIds: readonly string[]): Promise<ReadonlyMap<string, number>> {
    return this.#queue.positions(taskIds);
  }

  async newestTaskAt(userId: string, n: number): Promise<number | null> {
    return this.#tasksOf(userId)[n - 1]?.createdAt ?? null;
  }

  async taskLoad(userId: string, since: number) {
    const tasks = this.#tasksOf(userId);
    const open = tasks.filter(({ state }) => !isSettledState(state)).length;
    return { open, since: tasks.filter(({ createdAt }) => createdAt > since).length };
  }

  async hasIdempotencyKey(userId: string, key: string): Promise<boolean> {
    return this.#keys.has(JSON.stringify([userId, key]));
  }

  /** Newest first, deleted ones among them. */
  #tasksOf(userId: string): Pick<Task, "id" | "state" | "createdAt">[] {
    const tasks = [...this.#entries.values()].map(({ task }) => task).filter((task) => task.userId === userId);
    return [...tasks, ...this.deletions.of(userId)].toSorted((a, b) => byId(b, a));
  }

  async slotsHeld(userId?: string): Promise<number> {
    const held = [...this.#open.values()].filter(({ slot }) => slot);
    return held.filter(({ task }) => userId === undefined || task.userId === userId).length;
  }

  async counts() {
    const byState = Object.fromEntries(TASK_STATES.map((state) => [state, 0])) as Record<TaskState, number>;
    for (const { task } of this.#entries.values()) byState[task.state]++;
    let oldest = Infinity;
    for (const { task } of this.#open.values()) oldest = Math.min(oldest, task.createdAt);
    return { byState, oldestOpenAt: oldest === Infinity ? null : oldest };
  }

  async setting(key: string): Promise<string | null> {
    return this.#settings.get(key) ?? null;
  }

  async setSetting(key: string, value: string | null): Promise<void> {
    this.#assertOpen();
    if (value === null) this.#settings.delete(key);
    else this.#settings.set(key, value);
  }

  async ping(): Promise<void> {
    this.#assertOpen();
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #assertOpen(): void {
    if (this.#closed) throw new SlipwayError("unavailable", "The store is closed.");
  }
}

export function openMemoryStore(): {
  readonly store: Store;
  readonly accounts: Accounts;
  readonly audit: AuditLog;
  readonly keys: KeyStore;
  readonly ledger: UsageLedger;
  readonly notifications: Notifications;
} {
  const ledger = new MemoryLedger();
  const audit = memoryAudit();
  const notifications = new MemoryNotifications();
  const people = new MemoryPersonDeletions();
  const memory = new MemoryStore(ledger, notifications, people);
  const store: Store = Object.assign(memory, memory.deletions.methods, memory.people, memory.stored, memory.marks);
  const accounts = memoryAccounts(audit, (deletion) => people.begin(deletion));
  return { store, accounts, audit, keys: memoryKeys(accounts, audit, notifications), ledger, notifications };
}
