/** The client of the Slipway API: a method per call, and watching; for browsers and Node.js. */
import type { WireEvent } from "../core/protocol/events.ts";
import type { ServerConfig } from "../core/protocol/config.ts";
import type {
  AnswerRequest,
  EgressChangeRequest,
  EgressListAnswer,
  MessageRequest,
  Overview,
  RetryRequest,
  SubmitRequest,
  WireTask,
} from "../core/protocol/rest.ts";
import type { Scope } from "../core/ports/accounts.ts";
import type { WebSocketConstructor } from "./stream.ts";
import { PeopleClient } from "./people.ts";
import { PushClient } from "./push.ts";
import { AttachmentsClient, RepositoriesClient } from "./repositories.ts";
import { SlipwayProblem } from "./problem.ts";
import { keyed, Transport, type Call } from "./transport.ts";
import type { ClientOptions } from "./options.ts";
import type {
  Account,
  Artifact,
  Attempt,
  Before,
  CallOptions,
  Conversation,
  ConversationQuery,
  CountsQuery,
  DevicePoll,
  DiffContentQuery,
  DiffFile,
  GitCredential,
  HistoryQuery,
  KeyedCallOptions,
  Leftovers,
  ListQuery,
  LogDigest,
  LoginAnswer,
  Machine,
  Me,
  Message,
  MessageAnswer,
  NewCredential,
  NewUser,
  Page,
  TaskPage,
  PersonalToken,
  PullRequestView,
  Session,
  TaskCounts,
  TaskDiff,
  TaskListQuery,
  Ticket,
  ToolCall,
} from "./types.ts";
import {
  WATCH_TIMING,
  watchTask,
  watchTasks,
  type WatchDeps,
  type WatchOptions,
  type WatchTasksOptions,
} from "./watch.ts";

/** More than the time limit of the server. */
const GC_MS = 16 * 60_000;
type Query = NonNullable<Call["query"]>;
const task = (id: string): string => `/v1/tasks/${encodeURIComponent(id)}`;

/**
 * Every method throws SlipwayProblem, or the reason of its signal. A call whose response was lost
 * is sent again, under the same Idempotency-Key if it changes something.
 */
export class SlipwayClient {
  /** People, their sessions and their log-ins. */
  readonly people: PeopleClient;
  readonly push: PushClient;
  /** Before a task: can a repository be read, may its work be pushed, which were used last. */
  readonly repositories: RepositoriesClient;
  readonly attachments: AttachmentsClient;
  readonly #transport: Transport;
  readonly #watching: WatchDeps;

  constructor(options: ClientOptions) {
    this.#transport = new Transport(options);
    this.people = new PeopleClient(this.#transport);
    this.push = new PushClient(this.#transport);
    this.repositories = new RepositoriesClient(this.#transport);
    this.attachments = new AttachmentsClient(this.#transport);
    const found: unknown = Reflect.get(globalThis, "WebSocket");
    const Socket = options.WebSocket ?? (typeof found === "function" ? (found as WebSocketConstructor) : null);
    this.#watching = { transport: this.#transport, Socket, timing: { ...WATCH_TIMING, ...options.timing } };
  }

  get baseUrl(): string {
    return this.#transport.baseUrl;
  }

  // -------------------------------------------------------------- who

  async login(email: string, password: string, options: KeyedCallOptions = {}): Promise<LoginAnswer> {
    const call = { method: "POST", path: "/v1/auth/login", authenticated: false } as const;
    return this.#enter({ ...call, body: { email, password }, ...keyed(options) });
  }

  /** Makes the first admin with the one-time token of the printed link, and logs in as it. */
  async setUp(token: string, email: string, password: string, options: KeyedCallOptions = {}): Promise<LoginAnswer> {
    const call = { method: "POST", path: "/v1/setup", authenticated: false } as const;
    return this.#enter({ ...call, body: { token, email, password }, ...keyed(options) });
  }

  /** Whether it was approved; when done, this client is logged in. */
  async pollDeviceLogin(deviceCode: string, options: CallOptions = {}): Promise<DevicePoll> {
    const polled = await this.people.pollDevice(deviceCode, options);
    if (polled.state === "done") await this.#transport.adopt(polled.session);
    return polled;
  }

  /** Ends the session here and at the server. */
  async logout(options: KeyedCallOptions = {}): Promise<void> {
    if ((await this.#transport.session()) === null) return;
    try {
      await this.#transport.send({ method: "POST", path: "/v1/auth/logout", ...keyed(options) });
    } catch (thrown) {
      // The session has ended already, maybe by a request whose answer was lost.
      if (!(thrown instanceof SlipwayProblem) || thrown.status !== 401) throw thrown;
    }
    await this.#transport.adopt(null);
  }

  /** The current session; null = not logged in. */
  session(): Promise<Session | null> {
    return this.#transport.session();
  }

  /** The options for submissions to this server, their defaults and bounds. */
  offer(options: CallOptions = {}): Promise<ServerConfig> {
    return this.#get("/v1/config", {}, options);
  }

  me(options: CallOptions = {}): Promise<Me> {
    return this.#get("/v1/me", {}, options);
  }

  /** One-time ticket for a WebSocket of your own. */
  ticket(options: KeyedCallOptions = {}): Promise<Ticket> {
    return this.#json({ method: "POST", path: "/v1/tickets", ...keyed(options) });
  }

  /** Only this response contains the token. */
  createToken(
    body: { name: string; expiresInDays?: number; scopes?: readonly Scope[] },
    options: KeyedCallOptions = {},
  ): Promise<PersonalToken & { token: string }> {
    return this.#json({ method: "POST", path: "/v1/tokens", body, ...keyed(options) });
  }

  tokens(query: ListQuery = {}, options: CallOptions = {}): Promise<Page<PersonalToken>> {
    return this.#get("/v1/tokens", { ...query }, options);
  }

  deleteToken(id: string, options: KeyedCallOptions = {}): Promise<void> {
    return this.#delete(`/v1/tokens/${encodeURIComponent(id)}`, options);
  }

  /** Replaces the credential for the same host. */
  putCredential(body: NewCredential, options: KeyedCallOptions = {}): Promise<GitCredential> {
    return this.#json({ method: "POST", path: "/v1/credentials", body, ...keyed(options) });
  }

  credentials(query: ListQuery = {}, options: CallOptions = {}): Promise<Page<GitCredential>> {
    return this.#get("/v1/credentials", { ...query }, options);
  }

  deleteCredential(id: string, options: KeyedCallOptions = {}): Promise<void> {
    return this.#delete(`/v1/credentials/${encodeURIComponent(id)}`, options);
  }

  createUser(body: NewUser, options: KeyedCallOptions = {}): Promise<Account> {
    return this.#json({ method: "POST", path: "/v1/users", body, ...keyed(options) });
  }

  users(query: ListQuery = {}, options: CallOptions = {}): Promise<Page<Account>> {
    return this.#get("/v1/users", { ...query }, options);
  }

  // -------------------------------------------------------------- tasks

  /** A lost response never creates a second task. */
  submit(body: SubmitRequest, options: KeyedCallOptions = {}): Promise<WireTask> {
    return this.#json({ method: "POST", path: "/v1/tasks", body, ...keyed(options) });
  }

  task(id: string, options: CallOptions = {}): Promise<WireTask> {
    return this.#get(task(id), {}, options);
  }

  tasks(query: TaskListQuery = {}, options: CallOptions = {}): Promise<TaskPage> {
    const { state, ...rest } = query;
    return this.#get("/v1/tasks", { ...rest, state: state?.join(",") }, options);
  }

  /** Numbers of tasks by group: the caller's; for operators all, or those of one `owner`. */
  counts(query: CountsQuery = {}, options: CallOptions = {}): Promise<TaskCounts> {
    return this.#get("/v1/tasks/counts", { ...query }, options);
  }

  /** The messages of all tasks of a thread, oldest first, or newest first with `before`. */
  conversation(threadId: string, query: ConversationQuery = {}, options: CallOptions = {}): Promise<Conversation> {
    return this.#get(`/v1/threads/${encodeURIComponent(threadId)}/conversation`, { ...query }, options);
  }

  cancel(id: string, options: KeyedCallOptions = {}): Promise<WireTask> {
    return this.#json({ method: "POST", path: `${task(id)}/cancel`, ...keyed(options) });
  }

  /** Removes a settled task with all that it has. */
  deleteTask(id: string, options: KeyedCallOptions = {}): Promise<void> {
    return this.#delete(task(id), options);
  }

  /** Whether the task stays when others of its age are deleted. */
  isTaskKept(id: string, options: CallOptions = {}): Promise<{ keep: boolean }> {
    return this.#get(`${task(id)}/keep`, {}, options);
  }

  keepTask(id: string, keep: boolean, options: KeyedCallOptions = {}): Promise<{ keep: boolean }> {
    return this.#json({ method: "POST", path: `${task(id)}/keep`, body: { keep }, ...keyed(options) });
  }

  /** You have seen your task up to this event: it is unread while `notableSeq > readSeq`. */
  markRead(id: string, seq: number, options: KeyedCallOptions = {}): Promise<WireTask> {
    return this.#json({ method: "POST", path: `${task(id)}/read`, body: { seq }, ...keyed(options) });
  }

  /** A new task of the same thread. */
  retry(id: string, body: RetryRequest = {}, options: KeyedCallOptions = {}): Promise<WireTask> {
    return this.#json({ method: "POST", path: `${task(id)}/retry`, body, ...keyed(options) });
  }

  async message(id: string, body: MessageRequest, options: KeyedCallOptions = {}): Promise<MessageAnswer> {
    const answer = await this.#transport.send({
      method: "POST",
      path: `${task(id)}/messages`,
      body,
      ...keyed(options),
    });
    if (answer.status === 202) return { kind: "queued", message: JSON.parse(answer.text) as Message };
    return { kind: "follow_up", task: JSON.parse(answer.text) as WireTask };
  }

  withdraw(id: string, messageId: string, options: KeyedCallOptions = {}): Promise<void> {
    return this.#delete(`${task(id)}/messages/${encodeURIComponent(messageId)}`, options);
  }

  answer(id: string, body: AnswerRequest, options: KeyedCallOptions = {}): Promise<WireTask> {
    return this.#json({ method: "POST", path: `${task(id)}/answer`, body, ...keyed(options) });
  }

  events(
    id: string,
    query: { after?: number; before?: Before; only?: "outline"; limit?: number } = {},
    options: CallOptions = {},
  ): Promise<Page<WireEvent>> {
    return this.#get(`${task(id)}/events`, { ...query }, options);
  }

  /** Of the log up to this seq, as the server has it. */
  logDigest(id: string, seq: number, options: CallOptions = {}): Promise<LogDigest> {
    return this.#get(`${task(id)}/digest`, { seq }, options);
  }

  messages(id: string, query: HistoryQuery = {}, options: CallOptions = {}): Promise<Page<Message>> {
    return this.#get(`${task(id)}/messages`, { ...query }, options);
  }

  toolCalls(id: string, query: HistoryQuery = {}, options: CallOptions = {}): Promise<Page<ToolCall>> {
    return this.#get(`${task(id)}/tool-calls`, { ...query }, options);
  }

  /** By the seq of its `tool.started`. */
  toolCall(id: string, seq: number, options: CallOptions = {}): Promise<ToolCall> {
    return this.#get(`${task(id)}/tool-calls/${seq}`, {}, options);
  }

  attempts(id: string, query: ListQuery = {}, options: CallOptions = {}): Promise<Page<Attempt>> {
    return this.#get(`${task(id)}/attempts`, { ...query }, options);
  }

  diff(id: string, options: CallOptions = {}): Promise<TaskDiff> {
    return this.#get(`${task(id)}/diff`, { format: "json" }, options);
  }

  /** One changed file by its path after the change, with a patch of up to 2 MiB. */
  diffFile(id: string, path: string, options: CallOptions = {}): Promise<DiffFile> {
    return this.#get(`${task(id)}/diff/file`, { path }, options);
  }

  /** The bytes of a changed file before or after the change, up to 10 MiB. */
  diffContent(id: string, query: DiffContentQuery, options: CallOptions = {}): Promise<ReadableStream<Uint8Array>> {
    return this.#transport.stream({ method: "GET", path: `${task(id)}/diff/content`, query, signal: options.signal });
  }

  /** As its forge has it now; 404 for a task without one. */
  pullRequest(id: string, options: CallOptions = {}): Promise<PullRequestView> {
    return this.#get(`${task(id)}/pull-request`, {}, options);
  }

  /** The whole change as text that `git apply` takes. */
  async patch(id: string, options: CallOptions = {}): Promise<string> {
    const query = { format: "patch" };
    const call: Call = { method: "GET", path: `${task(id)}/diff`, query, signal: options.signal };
    return (await this.#transport.send(call)).text;
  }

  /** The salvaged workspaces of the task's attempts. */
  artifacts(id: string, query: ListQuery = {}, options: CallOptions = {}): Promise<Page<Artifact>> {
    return this.#get(`${task(id)}/artifacts`, { ...query }, options);
  }

  /** The bytes of one artifact, which nothing unpacks; the list has their `sha256`. */
  artifact(id: string, name: string, options: CallOptions = {}): Promise<ReadableStream<Uint8Array>> {
    const path = `${task(id)}/artifacts/${encodeURIComponent(name)}`;
    return this.#transport.stream({ method: "GET", path, signal: options.signal });
  }

  // -------------------------------------------------------------- live

  /**
   * Every event of a task from `after` on, once each and in order; ends after the event that
   * settled it. Reconnects without limit; throws when the server rejects the watch.
   */
  watch(id: string, options: WatchOptions = {}): AsyncIterable<WireEvent> {
    return watchTask(this.#watching, id, options);
  }

  /** Your tasks in their newest form, each time one changes. Never ends by itself. */
  watchTasks(options: WatchTasksOptions = {}): AsyncIterable<WireTask> {
    return watchTasks(this.#watching, options);
  }

  // -------------------------------------------------------------- operators

  machine(id: string, options: CallOptions = {}): Promise<Machine> {
    return this.#get(`${task(id)}/machine`, {}, options);
  }

  overview(options: CallOptions = {}): Promise<Overview> {
    return this.#get("/v1/ops/overview", {}, options);
  }

  /** False also ends a drain. */
  pauseQueue(paused: boolean, options: KeyedCallOptions = {}): Promise<Overview["queue"]> {
    return this.#json({ method: "POST", path: `/v1/ops/queue/${paused ? "pause" : "resume"}`, ...keyed(options) });
  }

  /** Pauses the queue; `drain` of the answer and of the overview has the tasks that still run. */
  drainQueue(options: KeyedCallOptions = {}): Promise<Overview["queue"]> {
    return this.#json({ method: "POST", path: "/v1/ops/queue/drain", ...keyed(options) });
  }

  /** The hosts that egress `allowlist` permits; with `repo` those added for that repository. */
  egress(query: { repo?: string } = {}, options: CallOptions = {}): Promise<EgressListAnswer> {
    return this.#get("/v1/ops/egress", { ...query }, options);
  }

  changeEgress(body: EgressChangeRequest, options: KeyedCallOptions = {}): Promise<EgressListAnswer> {
    return this.#json({ method: "POST", path: "/v1/ops/egress", body, ...keyed(options) });
  }

  /** Removes data that no task needs; with `dryRun` only lists it. May take minutes. */
  gc(body: { dryRun?: boolean } = {}, options: KeyedCallOptions = {}): Promise<Leftovers> {
    return this.#json({ method: "POST", path: "/v1/ops/gc", body, timeoutMs: GC_MS, ...keyed(options) });
  }

  /** Cancel without grace. */
  kill(id: string, options: KeyedCallOptions = {}): Promise<WireTask> {
    return this.#json({ method: "POST", path: `/v1/ops/tasks/${encodeURIComponent(id)}/kill`, ...keyed(options) });
  }

  async #enter(call: Call): Promise<LoginAnswer> {
    const answer = await this.#json<LoginAnswer>(call);
    await this.#transport.adopt(answer);
    return answer;
  }

  async #json<T>(call: Call): Promise<T> {
    return this.#transport.json<T>(call);
  }

  #get<T>(path: string, query: Query, options: CallOptions): Promise<T> {
    return this.#json({ method: "GET", path, query, signal: options.signal });
  }

  async #delete(path: string, options: KeyedCallOptions): Promise<void> {
    await this.#transport.send({ method: "DELETE", path, ...keyed(options) });
  }
}
