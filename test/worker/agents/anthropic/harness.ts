/**
 * The parts around the agent: real tools in a real git workspace, a transcript in a file, the fake
 * model over HTTP. A run can be killed at any record of the transcript. The next one continues in
 * the same directory (the same attempt) or from the last checkpoint (the next attempt).
 */
import { execFileSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createModelAgent } from "../../../../worker/agents/anthropic/agent.ts";
import type { LoopSettings } from "../../../../worker/agents/anthropic/settings.ts";
import type {
  AgentContext,
  AgentResult,
  ReceivedMessage,
  Transcript,
  TranscriptRecord,
} from "../../../../worker/agents/agent.ts";
import { NO_SECRETS } from "../../../../src/core/lib/json/redaction.ts";
import { createTools } from "../../../../worker/tools/toolbox.ts";
import type { ToolRunner } from "../../../../worker/tools/tool.ts";
import { readChanges } from "../../../../worker/workspace/changes.ts";
import type { WorkerSpec } from "../../../../src/core/protocol/worker.ts";

export const KEY = "att_key";

export class Killed extends Error {}

/**
 * A transcript in a file. With `kill`, the append of that record rejects, before or after it is
 * durable.
 */
export class FileTranscript implements Transcript {
  readonly records: readonly TranscriptRecord[];
  readonly #file: string;
  readonly #attempt: number;
  readonly #kill: Kill | null;
  #length: number;
  #busy = false;

  constructor(file: string, attempt: number, kill: Kill | null) {
    this.#file = file;
    this.#attempt = attempt;
    this.#kill = kill;
    this.records = readRecords(file);
    this.#length = this.records.length;
  }

  async append(data: Readonly<Record<string, unknown>>): Promise<void> {
    if (this.#busy) throw new Error("two appends at once");
    this.#busy = true;
    const killed = this.#kill !== null && this.#length === this.#kill.at;
    if (killed && this.#kill?.when === "before") throw new Killed();
    const fd = openSync(this.#file, "a");
    writeSync(fd, `${JSON.stringify({ attempt: this.#attempt, data })}\n`);
    fsyncSync(fd);
    closeSync(fd);
    if (killed) throw new Killed();
    await delay(0);
    this.#length += 1;
    this.#busy = false;
  }
}

export interface Kill {
  readonly at: number;
  readonly when: "before" | "after";
}

export function readRecords(file: string): TranscriptRecord[] {
  const lines = readFileSync(file, "utf8").split("\n").filter(Boolean);
  return lines.map((line) => JSON.parse(line) as TranscriptRecord);
}

export function git(cwd: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): string {
  const who = { GIT_AUTHOR_NAME: "T", GIT_AUTHOR_EMAIL: "t@t", GIT_COMMITTER_NAME: "T", GIT_COMMITTER_EMAIL: "t@t" };
  return execFileSync("git", args, {
    cwd,
    env: { ...process.env, ...who, ...env },
    encoding: "utf8",
    stdio: "pipe",
  }).trim();
}

/** A task with its repository: the state that outlives the runs of its worker. */
export class TaskFixture {
  readonly dir = mkdtempSync(join(tmpdir(), "swa-"));
  readonly file = join(this.dir, "transcript.jsonl");
  readonly origin = join(this.dir, "origin");
  readonly outside = join(this.dir, "outside");
  attempt = 1;
  checkpoint: { sha: string; cursor: string } | null = null;
  marked: string | null = null;
  answers: Record<string, string> = {};

  constructor(files: Readonly<Record<string, string>> = { "a.txt": "one\n" }) {
    mkdirSync(this.outside);
    writeFileSync(this.file, "");
    mkdirSync(this.origin);
    git(this.origin, ["init", "-q", "-b", "main"]);
    for (const [path, content] of Object.entries(files)) writeFileSync(join(this.origin, path), content);
    git(this.origin, ["add", "-A"]);
    git(this.origin, ["commit", "-q", "-m", "base"]);
    this.#open();
  }

  get root(): string {
    return join(this.dir, `work-${this.attempt}`);
  }

  #open(): void {
    git(this.dir, ["clone", "-q", "-s", this.origin, this.root]);
    if (this.checkpoint === null) return;
    git(this.root, ["read-tree", "-u", "--reset", this.checkpoint.sha]);
    git(this.root, ["reset", "-q"]);
  }

  /** The next attempt: another container, the files of the last checkpoint. */
  nextAttempt(): void {
    this.attempt += 1;
    this.marked = null;
    this.#open();
  }

  save(cursor: string): void {
    const env = { GIT_INDEX_FILE: join(this.dir, "index") };
    git(this.root, ["add", "-A"], env);
    const tree = git(this.root, ["write-tree"], env);
    const sha = git(this.root, ["commit-tree", tree, "-m", "checkpoint"]);
    git(this.root, ["push", "-q", this.origin, `+${sha}:refs/slipway/checkpoint`]);
    this.checkpoint = { sha, cursor };
  }

  /** Sets the transcript of an earlier task of the thread. */
  adopt(lines: string): void {
    writeFileSync(this.file, `${lines}\n`);
  }

  records(): TranscriptRecord[] {
    return readRecords(this.file);
  }

  read(path: string): string {
    return readFileSync(join(this.root, path), "utf8");
  }

  /**
   * The names of commands that ran, from a file outside the workspace, which no checkpoint
   * restores.
   */
  ran(): string[] {
    const file = join(this.outside, "ran");
    return existsSync(file) ? readFileSync(file, "utf8").split("\n").filter(Boolean) : [];
  }

  close(): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}

export interface AgentRunOptions {
  readonly fixture: TaskFixture;
  readonly model: { readonly baseURL: string; readonly token: string } | null;
  readonly spec?: Partial<WorkerSpec>;
  readonly settings?: Partial<LoopSettings>;
  readonly kill?: Kill;
  readonly budget?: ("continue" | "stop")[];
  /** Null: the question stays open. */
  readonly answer?: (question: string) => string | null;
  readonly instructions?: string;
  readonly pictures?: AgentContext["pictures"];
  readonly notes?: readonly string[];
  /** Every n-th `due` checkpoint is made (default 8); 0 = none. */
  readonly saveEach?: number;
  /** Called before each tool runs. */
  readonly onTool?: (run: AgentRun) => void;
}

export interface Emitted {
  readonly type: string;
  readonly data: Record<string, unknown>;
}

const schema = (required: readonly string[]) => ({
  type: "object",
  properties: Object.fromEntries(required.map((name) => [name, { type: "string" }])),
  required,
});
const TOOLS: AgentContext["toolSchemas"] = [
  { name: "bash", description: "Runs a command.", inputSchema: schema(["command"]) },
  { name: "read", description: "Reads a file.", inputSchema: schema(["path"]) },
  { name: "edit", description: "Edits a file.", inputSchema: schema(["path", "old", "new"]) },
  { name: "write", description: "Writes a file.", inputSchema: schema(["path", "content"]) },
];

export class AgentRun implements AgentContext {
  readonly events: Emitted[] = [];
  readonly deltas: string[] = [];
  readonly stop = new AbortController();
  readonly signal = this.stop.signal;
  readonly spec: WorkerSpec;
  readonly cursor: string | null;
  readonly transcript: FileTranscript;
  readonly model: AgentRunOptions["model"];
  readonly toolSchemas = TOOLS;
  readonly secrets = NO_SECRETS;
  readonly instructions: string;
  readonly notes: readonly string[];
  readonly attached: string;
  readonly pictures: AgentContext["pictures"];
  readonly #options: AgentRunOptions;
  readonly #tools: ToolRunner;
  readonly #messages: (ReceivedMessage & { mode: "steer" | "follow_up"; interrupt: boolean })[] = [];
  readonly #watches = new Set<AbortController>();
  #ids = 0;
  #due = 0;

  constructor(options: AgentRunOptions) {
    const { fixture, kill, spec } = options;
    this.#options = options;
    this.model = options.model;
    this.instructions = options.instructions ?? "";
    this.notes = options.notes ?? [];
    this.pictures = options.pictures ?? [];
    this.attached = this.pictures.map(({ name }) => `- /attachments/${name}`).join("\n");
    this.transcript = new FileTranscript(fixture.file, fixture.attempt, kill ?? null);
    this.cursor = fixture.marked ?? fixture.checkpoint?.cursor ?? null;
    this.spec = { ...SPEC, attempt: fixture.attempt, answers: fixture.answers, ...spec };
    this.#tools = createTools(fixture.root, join(fixture.dir, "jobs"), { OUTSIDE: fixture.outside });
  }

  get delivered(): readonly ReceivedMessage[] {
    return this.spec.delivered;
  }

  pictureData(id: string): string | null {
    return id.startsWith("lost") ? null : Buffer.from(`content of ${id}`).toString("base64");
  }

  takePictures(): AgentContext["pictures"] {
    return this.pictures;
  }

  async run(): Promise<AgentResult> {
    // A busy machine is silent for seconds. Tests of silence and of giving up set their own limits.
    const quick: Partial<LoopSettings> = { idleMs: 60_000, backoffMs: 5, backoffCapMs: 20, patienceMs: 60_000 };
    return await createModelAgent({ ...quick, ...this.#options.settings }).run(this);
  }

  emit = (type: string, data: object): void => {
    if (!this.stop.signal.aborted) this.events.push({ type, data: data as Record<string, unknown> });
  };

  delta = (_id: string, text: string): void => {
    this.deltas.push(text);
  };

  async alive<T>(_what: string, work: () => Promise<T>): Promise<T> {
    return await work();
  }

  newId(prefix: string): string {
    this.#ids += 1;
    return `${prefix}_${this.#options.fixture.attempt}_${this.#ids}`;
  }

  async message(text: string): Promise<void> {
    this.emit("message", { id: this.newId("msg"), role: "assistant", content: [{ type: "text", text }] });
  }

  async tool(name: string, input: Readonly<Record<string, unknown>>): ReturnType<AgentContext["tool"]> {
    this.emit("tool.started", { name, input });
    this.#options.onTool?.(this);
    const watch = this.watchInterrupt();
    const result = await this.#tools.run(name, input, this.signal, { interrupt: watch.signal });
    watch.stop();
    this.emit("tool.finished", { name, ...result });
    return result;
  }

  async ask(id: string, question: string): Promise<string> {
    const known = this.spec.answers[id];
    if (known !== undefined) return known;
    this.emit("question", { id, question });
    const answer = this.#options.answer?.(question) ?? null;
    if (answer !== null) return answer;
    return await new Promise((_, reject) =>
      this.signal.addEventListener("abort", () => reject(this.signal.reason as Error)),
    );
  }

  sendMessage(text: string, mode: "steer" | "follow_up" = "steer", interrupt = false): void {
    this.#messages.push({ id: this.newId("m"), text, mode, interrupt });
    if (interrupt) for (const watch of this.#watches) watch.abort();
  }

  get isInterrupted(): boolean {
    return this.#messages.some(({ interrupt }) => interrupt);
  }

  watchInterrupt(): ReturnType<AgentContext["watchInterrupt"]> {
    const watch = new AbortController();
    this.#watches.add(watch);
    if (this.isInterrupted) watch.abort();
    return { signal: watch.signal, stop: () => void this.#watches.delete(watch) };
  }

  async receiveMessages(point: "step" | "end"): Promise<readonly ReceivedMessage[]> {
    const ready = this.#messages.filter(({ mode }) => point === "end" || mode === "steer");
    for (const message of ready) this.#messages.splice(this.#messages.indexOf(message), 1);
    return ready;
  }

  mark(cursor: string): void {
    this.#options.fixture.marked = cursor;
  }

  async checkpoint(cursor: string, mode: "due" | "now" | "always"): Promise<void> {
    const each = this.#options.saveEach ?? 8;
    this.#due += 1;
    if (mode === "due" && (each === 0 || this.#due % each > 0)) return;
    this.#options.fixture.save(cursor);
    this.emit("checkpoint", { cursor, mode });
  }

  async commit(): Promise<null> {
    return null;
  }

  async changes(limit?: number): Promise<string> {
    return await readChanges(
      { root: this.#options.fixture.root, baseSha: "HEAD", secrets: NO_SECRETS },
      this.signal,
      limit,
    );
  }

  async verify(): ReturnType<AgentContext["verify"]> {
    const results: { command: string; exitCode: number | null; tail: string }[] = [];
    const watch = this.watchInterrupt();
    for (const command of this.spec.verify) {
      this.emit("check", { command });
      const input = { command, fromRoot: true };
      const { exitCode, output } = await this.#tools.run("bash", input, this.signal, { interrupt: watch.signal });
      this.emit("verify", { command, exitCode });
      results.push({ command, exitCode, tail: output });
    }
    watch.stop();
    return results;
  }

  async budgetQuestion(): Promise<"continue" | "stop"> {
    return this.#options.budget?.shift() ?? "stop";
  }

  async sleep(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.signal });
  }

  async hang(): Promise<never> {
    throw new Error("this agent does not hang");
  }

  of(type: string): Record<string, unknown>[] {
    return this.events.filter((event) => event.type === type).map(({ data }) => data);
  }

  notices(): string[] {
    return this.of("notice").map(({ code }) => String(code));
  }
}

const SPEC: WorkerSpec = {
  taskId: "task_agent",
  attempt: 1,
  prompt: "Do the work.",
  agent: "anthropic",
  model: null,
  effort: null,
  gateway: "open",
  script: null,
  setup: [],
  verify: [],
  budget: {},
  base: "main",
  baseSha: "0".repeat(40),
  workRef: "refs/slipway/work",
  checkpointRef: "refs/slipway/checkpoint",
  resume: null,
  answers: {},
  delivered: [],
  commandsAfter: 0,
  ack: 0,
  transcript: 0,
  abandonMs: 3_600_000,
  wallMs: 3_600_000,
};

/** A command that records its name in the workspace and outside it. */
export const step = (name: string): { name: string; input: Record<string, unknown> } => ({
  name: "bash",
  input: { command: `echo ${name} >> log.txt; echo ${name} >> "$OUTSIDE/ran"` },
});

export const FINISH = { name: "finish", input: { title: "Do the work", summary: "It is done and was checked." } };
