/**
 * What the harness gives to an agent: the context of one run, on top of link, workspace and tools.
 */
import { relative, resolve } from "node:path";
import { isAbort, errorMessage } from "../src/core/error.ts";
import type { WorkerCommand, WorkerSpec } from "../src/core/protocol/worker.ts";
import type { AgentContext, CheckpointMode, ReceivedMessage, Transcript } from "./agents/agent.ts";
import type { Deadline } from "./lib/deadline.ts";
import type { Instructions } from "./workspace/instructions.ts";
import { StaleAttempt, type CoordinatorLink } from "./connection/link.ts";
import type { McpTool } from "./mcp/client.ts";
import type { Toolbox } from "./tools/toolbox.ts";
import { sanitize } from "./lib/text.ts";
import { toolSchemas } from "./tools/schemas.ts";
import type { ToolInput, ToolResult } from "./tools/tool.ts";
import { verify, type Verified } from "./workspace/verify.ts";
import { Unreachable, type Workspace } from "./workspace/workspace.ts";
import type { Clock } from "../src/core/ports/runtime.ts";

/** A checkpoint is due after this, and never takes more than a tenth of the time. */
const CHECKPOINT_EVERY_MS = 2_000;
const CHECKPOINT_SHARE = 10;
/** What a tool has done so far is saved about this often while it runs. */
const CHECKPOINT_TOOL_MS = 15_000;
const FILE_TOOLS: ReadonlySet<string> = new Set(["read", "edit", "write"]);
const DELTA_PIECES = 8;
const DELTA_GAP_MS = 8;
/** Times that a reachable coordinator may refuse the same push. */
const PUSH_TRIES = 4;

export interface WorkerParts {
  readonly link: CoordinatorLink;
  readonly workspace: Workspace;
  readonly tools: Toolbox;
  readonly clock: Clock;
  newId(prefix: string): string;
  /** The gateway, if the installation has one. */
  readonly model: NonNullable<AgentContext["model"]>;
}

/**
 * Repeats what needs the task repository. A connection that broke says nothing about the work, only
 * that the coordinator went away in the middle: that is repeated for as long as it takes. What the
 * coordinator itself refused is tried a few times only.
 */
export async function waitingForPeople<T>(parts: WorkerParts, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  for (let refusals = 0; ;) {
    try {
      return await work();
    } catch (thrown) {
      if (!(thrown instanceof Unreachable)) throw thrown;
      if (!thrown.lost && ++refusals >= PUSH_TRIES) throw thrown;
      await parts.link.reach(signal);
      await parts.clock.sleep(100 * 2 ** refusals, signal);
    }
  }
}

export interface SessionOptions {
  readonly spec: WorkerSpec;
  readonly transcript: Transcript;
  readonly instructions: Instructions;
  readonly deadline: Deadline;
  readonly signal: AbortSignal;
}

export class Session implements AgentContext {
  readonly spec: WorkerSpec;
  readonly cursor: string | null;
  readonly signal: AbortSignal;
  readonly emit: CoordinatorLink["emit"];
  readonly delta: CoordinatorLink["delta"];
  readonly transcript: Transcript;
  readonly model: AgentContext["model"];
  #toolSchemas: AgentContext["toolSchemas"] = toolSchemas([]);
  readonly instructions: string;
  readonly #directoryInstructions: Instructions;
  readonly #notes: string[];
  readonly #parts: WorkerParts;
  readonly #deadline: Deadline;
  #dueAt = -Infinity;
  #savedSha: string;
  #savedCursor: string | null;
  #marked: string | null;
  /** A tool has been at work since the last checkpoint that the coordinator was told of. */
  #worked = false;
  #saving: Promise<void> = Promise.resolve();

  constructor(parts: WorkerParts, { spec, transcript, instructions, deadline, signal }: SessionOptions) {
    this.#parts = parts;
    this.spec = spec;
    this.#deadline = deadline;
    this.signal = signal;
    this.cursor = parts.link.recovered.cursor ?? spec.resume?.cursor ?? null;
    this.#savedSha = spec.baseSha;
    this.#savedCursor = this.cursor;
    this.#marked = this.cursor;
    this.model = spec.gateway === "open" ? parts.model : null;
    this.transcript = transcript;
    this.instructions = instructions.text;
    this.#directoryInstructions = instructions;
    this.#notes = [...(spec.notes ?? [])];
    this.emit = parts.link.emit.bind(parts.link);
    this.delta = parts.link.delta.bind(parts.link);
  }

  get toolSchemas(): AgentContext["toolSchemas"] {
    return this.#toolSchemas;
  }

  /** More tools, before the agent begins. */
  addTools(more: readonly McpTool[]): void {
    for (const { schema, call } of more) this.#parts.tools.add(schema.name, call);
    this.#toolSchemas = toolSchemas(more.map(({ schema }) => schema));
  }

  /**
   * Notes of this attempt: those of the coordinator, then those of the harness. The prompt is never
   * changed, because a resumed conversation is recognised by it.
   */
  get notes(): readonly string[] {
    return this.#notes;
  }

  /** Adds a note before the agent starts. */
  addNote(note: string): void {
    // A restarted worker reads the note back from the journal, whose text is sanitized: the note
    // must be the same in both lives.
    this.#notes.push(sanitize(note));
  }

  newId(prefix: string): string {
    return this.#parts.newId(prefix);
  }

  async message(text: string): Promise<void> {
    const id = this.newId("msg");
    const size = Math.max(24, Math.ceil(text.length / DELTA_PIECES));
    for (let at = 0; at < text.length; at += size) {
      this.delta(id, text.slice(at, at + size));
      if (at + size < text.length) await this.sleep(DELTA_GAP_MS);
    }
    this.emit("message", { id, role: "assistant", content: [{ type: "text", text }] });
  }

  async tool(name: string, input: ToolInput): Promise<ToolResult> {
    const id = this.newId("tool");
    const begun = this.#parts.clock.now();
    this.emit("tool.started", { id, name, input: { ...input } });
    const ended = new AbortController();
    const saving = this.#saveMeanwhile(AbortSignal.any([ended.signal, this.signal]));
    const finish = (result: ToolResult): void => {
      this.#worked = true;
      this.emit("tool.finished", { id, name, ...result, ms: Math.max(0, this.#parts.clock.now() - begun) });
    };
    try {
      const result = this.#withNotes(
        name,
        input,
        this.#withoutToken(await this.#parts.tools.run(name, input, this.signal)),
      );
      finish(result);
      return result;
    } catch (thrown) {
      if (!this.#parts.link.over.aborted)
        finish({ output: "[stopped before its end]", exitCode: null, truncated: false });
      throw thrown;
    } finally {
      ended.abort();
      await saving;
    }
  }

  /**
   * First what was not due before the tool began, then what it does. The checkpoint after the step
   * stays due: only that one moves the cursor.
   */
  async #saveMeanwhile(ended: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    try {
      for (let pause = CHECKPOINT_EVERY_MS; ;) {
        await clock.sleep(Math.max(pause, this.#dueAt - clock.now()), ended);
        const [begun, dueAt] = [clock.now(), this.#dueAt];
        await this.checkpoint(this.#marked ?? "0", "due", ended);
        this.#dueAt = dueAt;
        pause = Math.max(CHECKPOINT_TOOL_MS, (clock.now() - begun) * CHECKPOINT_SHARE);
      }
    } catch (thrown) {
      if (!ended.aborted) throw thrown;
    }
  }

  /**
   * Taken out before anybody sees it: what the agent remembers and what the coordinator keeps must
   * be the same.
   */
  #withoutToken(result: ToolResult): ToolResult {
    const { token } = this.#parts.model;
    return result.output.includes(token)
      ? { ...result, output: result.output.replaceAll(token, "[attempt token]") }
      : result;
  }

  /** What the repository says about a folder is told when a file below it is first touched. */
  #withNotes(name: string, input: ToolInput, result: ToolResult): ToolResult {
    const { root } = this.#parts.workspace;
    const path =
      FILE_TOOLS.has(name) && typeof input["path"] === "string" ? relative(root, resolve(root, input["path"])) : "..";
    const notes = path.startsWith("..") ? null : this.#directoryInstructions.notesFor(path);
    return notes === null ? result : { ...result, output: `${result.output}\n\n${notes}` };
  }

  async ask(id: string, question: string, options: readonly string[] | null): Promise<string> {
    const known = this.spec.answers[id];
    if (known !== undefined) return known;
    const { link } = this.#parts;
    this.#deadline.stop();
    try {
      if (!link.recovered.asked.has(id))
        this.emit("question", { id, question, options: options === null ? null : [...options] });
      await link.flush(this.signal);
      const isAnswer = (command: WorkerCommand): boolean => command.type === "answer" && command.questionId === id;
      const answer = await link.inbox.waitFor(isAnswer, this.signal);
      return answer.type === "answer" ? answer.text : "";
    } finally {
      this.#deadline.start();
    }
  }

  async receiveMessages(at: "step" | "end"): Promise<readonly ReceivedMessage[]> {
    const { link } = this.#parts;
    const messages = link.inbox.take(
      (command) => command.type === "message" && (at === "end" || command.mode === "steer"),
    );
    if (messages.length === 0) return [];
    const withdrawn = new Set(this.#withdrawals());
    const shown = messages.flatMap((m) =>
      m.type === "message" && !withdrawn.has(m.messageId) ? [{ id: m.messageId, text: m.text }] : [],
    );
    if (shown.length === 0) return [];
    for (const { id } of shown) this.emit("message.status", { id, status: "delivered" });
    await link.flush(this.signal);
    await link.catchUp(this.signal);
    for (const id of this.#withdrawals()) withdrawn.add(id);
    return shown.filter(({ id }) => !withdrawn.has(id));
  }

  #withdrawals(): string[] {
    const taken = this.#parts.link.inbox.take((command) => command.type === "withdraw");
    return taken.flatMap((command) => (command.type === "withdraw" ? [command.messageId] : []));
  }

  mark(cursor: string): void {
    this.#marked = cursor;
    this.#parts.link.mark(cursor);
  }

  /** One at a time: the workspace has one index for it. */
  checkpoint(cursor: string, mode: CheckpointMode, signal: AbortSignal = this.signal): Promise<void> {
    this.#marked = cursor;
    const mine = this.#saving.then(() => this.#checkpoint(cursor, mode, signal));
    this.#saving = mine.catch(() => undefined);
    return mine;
  }

  async #checkpoint(cursor: string, mode: CheckpointMode, signal: AbortSignal): Promise<void> {
    const { clock, workspace, link } = this.#parts;
    const begun = clock.now();
    if (mode === "due" && begun < this.#dueAt) return;
    const save = async (): Promise<void> => {
      const saved = await workspace.checkpoint(signal);
      // The last word says that all is saved, also when nothing changed: without it the workspace
      // would be salvaged.
      const said = mode === "now" && this.#worked;
      const worth =
        said || saved.sha !== this.#savedSha || (saved.sha !== this.spec.baseSha && cursor !== this.#savedCursor);
      if (!worth && (mode !== "always" || cursor === this.#savedCursor)) return;
      [this.#savedSha, this.#savedCursor] = [saved.sha, cursor];
      this.#worked = false;
      this.emit("checkpoint", { ...saved, cursor });
    };
    try {
      await (mode === "due" ? save() : waitingForPeople(this.#parts, signal, save));
      if (mode !== "due") await link.flush(signal);
    } catch (thrown) {
      if (signal.aborted || isAbort(thrown) || thrown instanceof StaleAttempt) throw thrown;
      if (!(thrown instanceof Unreachable) || mode !== "due") this.#warn(thrown);
    }
    const now = clock.now();
    this.#dueAt = now + Math.max(CHECKPOINT_EVERY_MS, (now - begun) * CHECKPOINT_SHARE);
  }

  /** Saves what there is, with the cursor that was marked last: for an agent that was stopped. */
  async saveLast(signal: AbortSignal): Promise<void> {
    await this.checkpoint(this.#marked ?? "0", "now", signal);
  }

  /**
   * A checkpoint that cannot be made (the agent broke its repository) is no reason to stop: the
   * final commit will say what is wrong.
   */
  #warn(thrown: unknown): void {
    this.emit("notice", {
      level: "warning",
      code: "checkpoint_failed",
      text: `The work could not be saved: ${errorMessage(thrown)}`,
    });
  }

  async commit(message: string): Promise<string | null> {
    return await this.#parts.workspace.commit(message, this.signal);
  }

  async verify(): Promise<readonly Verified[]> {
    return await verify(this.#parts, this.spec.verify, this.signal);
  }

  async budgetQuestion(): Promise<"continue" | "stop"> {
    const { link } = this.#parts;
    this.#deadline.stop();
    try {
      // What is under way to the coordinator comes first: it asks nobody before it knows that the
      // agent is at work.
      await link.flush(this.signal);
      const standing = await link.budget(this.signal);
      if (standing.state !== "asked") return standing.state;
      await this.checkpoint(this.#marked ?? "0", "always");
      const { questionId } = standing;
      const isAnswer = (command: WorkerCommand): boolean =>
        command.type === "answer" && command.questionId === questionId;
      const answer = await link.inbox.waitFor(isAnswer, this.signal);
      return answer.type === "answer" && answer.text === "stop" ? "stop" : "continue";
    } finally {
      this.#deadline.start();
    }
  }

  async sleep(ms: number): Promise<void> {
    await this.#parts.clock.sleep(ms, this.signal);
  }

  async hang(): Promise<never> {
    this.#parts.link.silence();
    return await new Promise((_, reject) => {
      const stop = (): void => reject(this.signal.reason as Error);
      if (this.signal.aborted) return stop();
      this.signal.addEventListener("abort", stop, { once: true });
    });
  }
}
