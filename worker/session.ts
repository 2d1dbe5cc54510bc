/**
 * The agent's context: one run of an agent on top of the link, the workspace and the tools.
 *
 * Time that the agent waits for a person does not count against the deadline.
 */
import type { CommandVariables } from "./tools/shell/variables.ts";
import { relative, resolve } from "node:path";
import type { Clock } from "../src/core/ports/runtime.ts";
import type { WorkerCommand, WorkerSpec } from "../src/core/protocol/worker.ts";
import type { AgentContext, CheckpointMode, ReceivedMessage, Transcript } from "./agents/agent.ts";
import { Checkpointer } from "./checkpointer.ts";
import type { CoordinatorLink } from "./connection/link.ts";
import type { Deadline } from "./lib/deadline.ts";
import { OutputSign, SIGN_MS, withSignsOfLife } from "./lib/signs-of-life.ts";
import { stripHidden } from "./lib/hidden-characters.ts";
import { describeFindings, type Finding } from "../src/core/values/push-guard.ts";
import { sanitize } from "./lib/text.ts";
import { AttachmentFolder, type Picture } from "./workspace/attachments.ts";
import type { McpTool } from "./mcp/client.ts";
import type { Toolbox } from "./tools/toolbox.ts";
import { toolSchemas } from "./tools/schemas.ts";
import type { ToolInput, ToolResult } from "./tools/tool.ts";
import type { Instructions } from "./workspace/instructions.ts";
import { readChanges } from "./workspace/changes.ts";
import { verify, type Verified } from "./workspace/verify.ts";
import type { Workspace } from "./workspace/workspace.ts";

const FILE_TOOLS: ReadonlySet<string> = new Set(["read", "edit", "write"]);
/** A whole message is shown as at most this many deltas, this many ms apart. */
const DELTAS_PER_MESSAGE = 8;
const DELTA_GAP_MS = 8;
const DELTA_MIN_LENGTH = 24;

/** The name of the check among those of the task. */
const HELD = "slipway: what would be pushed";

function describeHeld(held: readonly Finding[], baseSha: string): string {
  return [
    "This would hold the push back until a person decides:",
    describeFindings(held),
    "Remove what does not belong into the repository, and let .gitignore name it. What you committed already must leave " +
      `your commits too (for example \`git reset --soft ${baseSha.slice(0, 12)}\`, then commit again). ` +
      "Leave what the task asks for, and say in your summary why it is needed.",
  ].join("\n");
}

export interface WorkerParts {
  readonly link: CoordinatorLink;
  readonly workspace: Workspace;
  readonly tools: Toolbox;
  readonly clock: Clock;
  newId(prefix: string): string;
  /** The gateway, if the installation has one. */
  readonly model: NonNullable<AgentContext["model"]>;
  readonly variables: Pick<CommandVariables, "secrets">;
  /** The folder for attachments, outside of the checkout. */
  readonly attachmentDir: string;
}

export interface SessionOptions {
  readonly spec: WorkerSpec;
  readonly transcript: Transcript;
  readonly instructions: Instructions;
  readonly deadline: Deadline;
  readonly signal: AbortSignal;
}

const isInterrupt = (command: WorkerCommand): boolean => command.type === "message" && command.interrupt === true;

export class Session implements AgentContext {
  readonly spec: WorkerSpec;
  readonly cursor: string | null;
  readonly signal: AbortSignal;
  readonly emit: CoordinatorLink["emit"];
  readonly delta: CoordinatorLink["delta"];
  readonly transcript: Transcript;
  readonly model: AgentContext["model"];
  readonly instructions: string;
  readonly #parts: WorkerParts;
  readonly #deadline: Deadline;
  readonly #checkpointer: Checkpointer;
  readonly #directoryInstructions: Instructions;
  readonly #attachments: AttachmentFolder;
  readonly #received: Picture[] = [];
  readonly #taken = new Set<string>();
  readonly #notes: string[];
  #hasReportedFindings = false;
  #toolSchemas: AgentContext["toolSchemas"] = toolSchemas([]);

  constructor(parts: WorkerParts, { spec, transcript, instructions, deadline, signal }: SessionOptions) {
    this.#parts = parts;
    this.spec = spec;
    this.#deadline = deadline;
    this.signal = signal;
    this.cursor = parts.link.recovered.cursor ?? spec.resume?.cursor ?? null;
    this.#checkpointer = new Checkpointer(parts, spec, this.cursor);
    this.model = spec.gateway === "open" ? parts.model : null;
    this.transcript = transcript;
    this.instructions = instructions.text;
    this.#directoryInstructions = instructions;
    this.#attachments = new AttachmentFolder(parts.attachmentDir, parts.link);
    this.#notes = [...(spec.notes ?? [])];
    this.emit = parts.link.emit.bind(parts.link);
    this.delta = parts.link.delta.bind(parts.link);
  }

  get secrets(): AgentContext["secrets"] {
    return this.#parts.variables.secrets;
  }

  get toolSchemas(): AgentContext["toolSchemas"] {
    return this.#toolSchemas;
  }

  /** Adds tools before the agent starts. */
  addTools(tools: readonly McpTool[]): void {
    for (const { schema, call } of tools) this.#parts.tools.add(schema.name, call);
    this.#toolSchemas = toolSchemas(tools.map(({ schema }) => schema));
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
    // A restarted worker reads the note back from the journal, whose text is sanitized. Both
    // processes must give the agent the same note.
    this.#notes.push(sanitize(note));
  }

  /** Writes the attachments that exist, before the agent starts. */
  async fetchAttachments(): Promise<void> {
    const { attachments = [], earlierAttachments = [], delivered } = this.spec;
    const all = [...attachments, ...delivered.flatMap((message) => message.attachments ?? []), ...earlierAttachments];
    await this.#attachments.fetch(all, this.signal);
  }

  get attached(): string {
    return this.#attachments.describe(this.spec.attachments ?? []);
  }

  get pictures(): readonly Picture[] {
    return this.#attachments.picturesOf(this.spec.attachments ?? []);
  }

  get delivered(): readonly ReceivedMessage[] {
    return this.spec.delivered.map((message) => this.#toReceived(message));
  }

  takePictures(): readonly Picture[] {
    const known = [...this.pictures, ...this.delivered.flatMap(({ pictures = [] }) => pictures), ...this.#received];
    const fresh = known.filter(({ id }, i) => !this.#taken.has(id) && known.findIndex((one) => one.id === id) === i);
    for (const { id } of fresh) this.#taken.add(id);
    return fresh;
  }

  pictureData(id: string): string | null {
    return this.#attachments.data(id);
  }

  #toReceived({ id, text, attachments = [] }: WorkerSpec["delivered"][number]): ReceivedMessage {
    const pictures = this.#attachments.picturesOf(attachments);
    const words = [text, this.#attachments.describe(attachments)].filter((part) => part !== "").join("\n\n");
    return { id, text: words, ...(pictures.length === 0 ? {} : { pictures }) };
  }

  newId(prefix: string): string {
    return this.#parts.newId(prefix);
  }

  async message(text: string): Promise<void> {
    const id = this.newId("msg");
    const size = Math.max(DELTA_MIN_LENGTH, Math.ceil(text.length / DELTAS_PER_MESSAGE));
    for (let offset = 0; offset < text.length; offset += size) {
      this.delta(id, text.slice(offset, offset + size));
      if (offset + size < text.length) await this.sleep(DELTA_GAP_MS);
    }
    this.emit("message", { id, role: "assistant", content: [{ type: "text", text }] });
  }

  async tool(name: string, input: ToolInput): Promise<ToolResult> {
    const { clock, tools, link } = this.#parts;
    const id = this.newId("tool");
    const startedAt = clock.now();
    this.emit("tool.started", { id, name, input: { ...input } });
    const ended = new AbortController();
    const interrupt = this.watchInterrupt();
    const saving = this.#checkpointer.saveWhileToolRuns(AbortSignal.any([ended.signal, this.signal]));
    const finish = (result: ToolResult): void => {
      this.#checkpointer.noteToolEnd();
      this.emit("tool.finished", { id, name, ...result, ms: Math.max(0, clock.now() - startedAt) });
    };
    try {
      const sign = new OutputSign();
      const onOutput = (lines: string, bytes: number): void => {
        const shown = this.#withoutToken(stripHidden(lines).text);
        sign.note(shown, bytes);
        link.delta(id, shown);
      };
      const watch = { interrupt: interrupt.signal, onOutput };
      const ran = await this.alive(name, () => tools.run(name, input, this.signal, watch), sign.describe);
      const output = this.#withoutToken(ran.output);
      const result = this.#withDirectoryInstructions(name, input, { ...ran, output });
      finish(result);
      return result;
    } catch (thrown) {
      if (!link.over.aborted) finish({ output: "[stopped before its end]", exitCode: null, truncated: false });
      throw thrown;
    } finally {
      interrupt.stop();
      ended.abort();
      await saving;
    }
  }

  /**
   * Removes the attempt's token from a tool's output before it is used: the agent's transcript and
   * the coordinator's events must hold the same text.
   */
  #withoutToken(output: string): string {
    return output.replaceAll(this.#parts.model.token, "[attempt token]");
  }

  /** Appends a directory's instructions when a file tool first touches a file below it. */
  #withDirectoryInstructions(name: string, input: ToolInput, result: ToolResult): ToolResult {
    const { root } = this.#parts.workspace;
    if (!FILE_TOOLS.has(name) || typeof input["path"] !== "string") return result;
    const path = relative(root, resolve(root, input["path"]));
    const text = path.startsWith("..") ? null : this.#directoryInstructions.notesFor(path);
    return text === null ? result : { ...result, output: `${result.output}\n\n${text}` };
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
      return await this.#waitForAnswer(id);
    } finally {
      this.#deadline.start();
    }
  }

  async #waitForAnswer(questionId: string): Promise<string> {
    const isAnswer = (command: WorkerCommand): boolean =>
      command.type === "answer" && command.questionId === questionId;
    const answer = await this.#parts.link.inbox.waitFor(isAnswer, this.signal);
    return answer.type === "answer" ? answer.text : "";
  }

  /** Reports the messages as delivered, then drops those that were withdrawn before that. */
  async receiveMessages(point: "step" | "end"): Promise<readonly ReceivedMessage[]> {
    const { link } = this.#parts;
    const commands = link.inbox.take(
      (command) => command.type === "message" && (point === "end" || command.mode === "steer"),
    );
    if (commands.length === 0) return [];
    const withdrawn = new Set(this.#takeWithdrawals());
    const delivered = commands.flatMap((command) =>
      command.type === "message" && !withdrawn.has(command.messageId)
        ? [{ id: command.messageId, text: command.text, attachments: command.attachments }]
        : [],
    );
    if (delivered.length === 0) return [];
    for (const { attachments = [] } of delivered) await this.#attachments.fetch(attachments, this.signal);
    for (const { id } of delivered) this.emit("message.status", { id, status: "delivered" });
    await link.flush(this.signal);
    await link.catchUp(this.signal);
    for (const id of this.#takeWithdrawals()) withdrawn.add(id);
    const messages = delivered.filter(({ id }) => !withdrawn.has(id)).map((message) => this.#toReceived(message));
    this.#received.push(...messages.flatMap(({ pictures = [] }) => pictures));
    return messages;
  }

  get isInterrupted(): boolean {
    return this.#parts.link.inbox.has(isInterrupt);
  }

  watchInterrupt(): { readonly signal: AbortSignal; readonly stop: () => void } {
    return this.#parts.link.inbox.watch(isInterrupt);
  }

  #takeWithdrawals(): string[] {
    const commands = this.#parts.link.inbox.take((command) => command.type === "withdraw");
    return commands.flatMap((command) => (command.type === "withdraw" ? [command.messageId] : []));
  }

  mark(cursor: string): void {
    this.#checkpointer.mark(cursor);
  }

  async checkpoint(cursor: string, mode: CheckpointMode): Promise<void> {
    await this.#checkpointer.save(cursor, mode, this.signal);
  }

  /** Saves the workspace of an agent that was stopped, with the cursor that it marked last. */
  async saveLast(signal: AbortSignal): Promise<void> {
    await this.#checkpointer.saveMarked("now", signal);
  }

  async commit(message: string): Promise<string | null> {
    return await this.#parts.workspace.commit(message, this.signal);
  }

  async changes(limit?: number): Promise<string> {
    return await readChanges(
      { root: this.#parts.workspace.root, baseSha: this.spec.baseSha, secrets: this.secrets },
      this.signal,
      limit,
    );
  }

  async verify(): Promise<readonly Verified[]> {
    const interrupt = this.watchInterrupt();
    try {
      const results = await verify(this.#parts, this.spec, this.signal, interrupt.signal);
      return interrupt.signal.aborted ? results : [...results, ...(await this.#inspectOnce())];
    } finally {
      interrupt.stop();
    }
  }

  /** What holds the push back goes to the agent once; after that a person decides. */
  async #inspectOnce(): Promise<readonly Verified[]> {
    if (this.#hasReportedFindings) return [];
    const { link, workspace, clock } = this.#parts;
    const begun = clock.now();
    const { sha } = await workspace.checkpoint(this.signal);
    const inspect = (): Promise<readonly Finding[]> => link.inspect(sha, this.signal);
    const held = (await this.alive("The look at the change", inspect)).filter(({ holds }) => holds);
    if (held.length === 0) return [];
    this.#hasReportedFindings = true;
    const result = { command: HELD, exitCode: 1, tail: describeHeld(held, this.spec.baseSha) };
    this.emit("verify", { ...result, ms: Math.max(0, clock.now() - begun) });
    return [result];
  }

  alive<T>(what: string, work: () => Promise<T>, progress?: () => string): Promise<T> {
    const { link, clock } = this.#parts;
    return withSignsOfLife({ link, clock, everyMs: this.spec.signMs ?? SIGN_MS }, what, work, progress);
  }

  async budgetQuestion(): Promise<"continue" | "stop"> {
    const { link } = this.#parts;
    this.#deadline.stop();
    try {
      // The coordinator asks a person only once it knows that the agent is at work, so the events
      // on their way must reach it first.
      await link.flush(this.signal);
      const standing = await link.budget(this.signal);
      if (standing.state !== "asked") return standing.state;
      await this.#checkpointer.saveMarked("always", this.signal);
      return (await this.#waitForAnswer(standing.questionId)) === "stop" ? "stop" : "continue";
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
