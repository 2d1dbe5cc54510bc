/**
 * Runs one attempt: executes the stage of the current state, then steps the state machine.
 *
 * The order of the stages is defined in machines/attempt.ts alone. The loop depends only on a link,
 * a workspace and tools, so it runs in the worker process (main.ts) or inside another program.
 */
import { formatShareOfTime } from "../src/core/lib/figures.ts";
import { startAttempt, stepAttempt, type AttemptEvent, type AttemptState } from "../machines/attempt.ts";
import { isAbort, errorMessage } from "../src/core/error.ts";
import { WORKER_EXIT, type WorkerSpec } from "../src/core/protocol/worker.ts";
import { WorkerExit, type Agent } from "./agents/agent.ts";
import { Deadline } from "./lib/deadline.ts";
import { toAttemptFailure } from "./lib/attempt-failure.ts";
import { NO_INSTRUCTIONS, readInstructions } from "./workspace/instructions.ts";
import { Session, type WorkerParts } from "./session.ts";
import { retryUnreachable } from "./connection/retry.ts";
import type { McpServers } from "../src/core/values/mcp-servers.ts";
import type { McpClients } from "./mcp/client.ts";
import { runCachedSetup } from "./workspace/setup/cached-setup.ts";
import type { CommandVariables } from "./tools/shell/variables.ts";
import { openTranscript } from "./connection/transcript.ts";
import { verify, type Verified } from "./workspace/verify.ts";

/** The share of the attempt's time after which people are warned, once. */
const TIME_WARNING_SHARE = 0.8;
/** The time between a signal to exit and giving up on saving and reporting. */
const WIND_DOWN_MS = 8_000;
/** The least of it when a cancel leaves less. The rest of a cancel's grace is for the exit. */
const MIN_WIND_DOWN_MS = 1_000;

export interface RunOptions extends WorkerParts {
  readonly agents: Readonly<Record<string, Agent>>;
  readonly variables: CommandVariables;
  /** The home folder of commands, and the worker's own folder. */
  readonly home: string;
  readonly stateDir: string;
  /** Starts the task's MCP servers. */
  openMcp(servers: McpServers, signal: AbortSignal): Promise<McpClients>;
  /** Aborting it cancels the attempt: the tools stop, the work is saved, the run ends. */
  readonly signal: AbortSignal;
}

/** The reason why the current stage is interrupted. */
class Interrupt extends Error {
  readonly event: "cancel" | "deadline";

  constructor(event: "cancel" | "deadline") {
    super(event);
    this.name = "Interrupt";
    this.event = event;
  }
}

/**
 * Never rejects.
 * @returns the exit code of the worker: one of WORKER_EXIT, or the one that a scripted agent chose.
 */
export async function runAttempt(options: RunOptions): Promise<number> {
  const run = new AttemptRun(options);
  try {
    return await run.execute();
  } catch (thrown) {
    if (thrown instanceof WorkerExit) return thrown.exitCode;
    if (run.isOver) return run.isStale ? WORKER_EXIT.stale : WORKER_EXIT.lost;
    process.stderr.write(`slipway worker: ${errorMessage(thrown)}\n`);
    return WORKER_EXIT.lost;
  } finally {
    run.release();
  }
}

class AttemptRun {
  readonly #options: RunOptions;
  /** Interrupts the stages before `winding_down`. */
  readonly #stop = new AbortController();
  /** Ends `winding_down` and `report`. */
  readonly #giveUp = new AbortController();
  /** Aborted when the run is over: removes its listeners and timers. */
  readonly #done = new AbortController();
  #session: Session | null = null;
  #isRestored = false;
  #deadline: Deadline | null = null;
  /** The checks that the agent ran as its last action; null when other work followed them. */
  #verified: readonly Verified[] | null = null;

  constructor(options: RunOptions) {
    this.#options = options;
    const { signal, link } = options;
    this.#onAbort(signal, () => this.#cancel(WIND_DOWN_MS));
    this.#onAbort(link.over, () => {
      this.#stop.abort(link.over.reason);
      this.#giveUp.abort(link.over.reason);
    });
  }

  get isOver(): boolean {
    return this.#options.link.over.aborted;
  }

  get isStale(): boolean {
    const { reason } = this.#options.link.over as { reason?: unknown };
    return reason instanceof Error && reason.name === "StaleAttempt";
  }

  release(): void {
    this.#deadline?.stop();
    this.#done.abort();
  }

  async execute(): Promise<number> {
    const { link } = this.#options;
    let spec: WorkerSpec;
    try {
      spec = await link.spec(this.#stop.signal);
    } catch (thrown) {
      if (this.isOver || !this.#stop.signal.aborted) throw thrown;
      return WORKER_EXIT.lost;
    }
    if (link.recovered.reported) {
      await link.flush(this.#giveUp.signal);
      return WORKER_EXIT.reported;
    }
    void this.#watchForCancel();
    const { clock } = this.#options;
    this.#deadline = new Deadline(clock, link, spec.wallMs, () => this.#stop.abort(new Interrupt("deadline")));
    let state = startAttempt();
    let delivered = true;
    while (state.value !== "ended") {
      const event = await this.#runStage(state, spec, this.#deadline);
      // A cancelled attempt has no report: what it must deliver is the saved work.
      const delivers =
        state.value === "report" || (state.value === "winding_down" && state.context.outcome?.kind === "cancelled");
      if (delivers && event.type !== "ok") delivered = false;
      state = stepAttempt(state, event);
    }
    return delivered ? WORKER_EXIT.reported : WORKER_EXIT.lost;
  }

  #onAbort(signal: AbortSignal, callback: () => void): void {
    if (signal.aborted) return callback();
    signal.addEventListener("abort", callback, { once: true, signal: this.#done.signal });
  }

  #cancel(windDownMs: number): void {
    this.#stop.abort(new Interrupt("cancel"));
    const { clock } = this.#options;
    clock.sleep(windDownMs, this.#done.signal).then(
      () => this.#giveUp.abort(),
      () => {},
    );
  }

  async #watchForCancel(): Promise<void> {
    try {
      const command = await this.#options.link.inbox.waitFor((c) => c.type === "cancel", this.#done.signal);
      if (command.type === "cancel") this.#cancel(Math.max(MIN_WIND_DOWN_MS, command.graceMs / 2));
    } catch (thrown) {
      if (!isAbort(thrown)) throw thrown;
    }
  }

  /**
   * Runs the stage of the state. Failures become events. Only the end of the link and a WorkerExit
   * reject.
   */
  async #runStage(state: AttemptState, spec: WorkerSpec, deadline: Deadline): Promise<AttemptEvent> {
    const stop = this.#stop.signal;
    try {
      if (state.value !== "winding_down" && state.value !== "report") stop.throwIfAborted();
      return await this.#executeStage(state, spec, deadline);
    } catch (thrown) {
      if (this.isOver) throw this.#options.link.over.reason;
      if (thrown instanceof WorkerExit) throw thrown;
      if (stop.reason instanceof Interrupt && state.value !== "winding_down" && state.value !== "report")
        return { type: stop.reason.event };
      return { type: "failed", ...toAttemptFailure(thrown, state.value) };
    }
  }

  async #executeStage(state: AttemptState, spec: WorkerSpec, deadline: Deadline): Promise<AttemptEvent> {
    switch (state.value) {
      case "clone":
        return await this.#clone(spec, deadline);
      case "setup":
        return await this.#setup(spec);
      case "agent":
        return await this.#agent(spec, deadline);
      case "verify":
        return await this.#verify(spec, deadline);
      case "commit":
        return await this.#commit(state);
      case "winding_down":
        // Before that the checkout lacks saved work, which must not be replaced by it.
        if (this.#isRestored) await this.#session?.saveLast(this.#giveUp.signal);
        return { type: "ok" };
      case "report":
        return await this.#report(state);
      case "ended":
        throw new Error("an attempt that has ended has no stage");
    }
  }

  async #clone(spec: WorkerSpec, deadline: Deadline): Promise<AttemptEvent> {
    const { link, workspace } = this.#options;
    const signal = this.#stop.signal;
    this.#step("connect", "started", null);
    this.#step("connect", "ended", null);
    this.#step("clone", "started", spec.resume === null ? null : "resuming from saved work");
    // Each line moves the deadline of the boot: a large checkout counts as alive.
    const progress = (text: string): void => {
      if (!link.recovered.ready) link.emit("notice", { level: "info", code: "step.clone", text });
    };
    const open = async (): Promise<void> => await workspace.open(spec, signal, progress);
    await retryUnreachable(this.#options, signal, open);
    this.#step("clone", "ended", `${spec.base} at ${(spec.resume?.sha ?? spec.baseSha).slice(0, 12)}`);
    const transcript = await openTranscript(link, spec.transcript, signal);
    const commit = { root: workspace.root, baseSha: spec.baseSha };
    // The scripted agent does not read instructions.
    const instructions = spec.agent === "scripted" ? NO_INSTRUCTIONS : await readInstructions(commit, signal);
    this.#session = new Session(this.#options, { spec, transcript, instructions, deadline, signal });
    await this.#session.fetchAttachments();
    if (spec.setup.length === 0) await this.#restore(spec, link.recovered.ready);
    for (const { id, name } of link.recovered.openTools) {
      const output = "[interrupted: the worker was restarted; check what this call did before you repeat it]";
      link.emit("tool.finished", { id, name, output, exitCode: null, ms: 0, truncated: false });
    }
    return { type: "ok" };
  }

  /** Tells the agent about the checkout in each life of the worker, and people once. */
  async #restore(spec: WorkerSpec, wasTold: boolean): Promise<void> {
    const { link, workspace } = this.#options;
    for (const text of await workspace.restore(spec, this.#stop.signal)) {
      this.#session?.addNote(text);
      if (!wasTold) link.emit("notice", { level: "info", code: "checkout", text });
    }
    this.#isRestored = true;
  }

  #step(name: "connect" | "clone" | "setup", status: "started" | "ended", detail: string | null): void {
    if (!this.#options.link.recovered.ready) this.#options.link.emit("task.step", { name, status, detail });
  }

  async #setup(spec: WorkerSpec): Promise<AttemptEvent> {
    const { link } = this.#options;
    let failure = link.recovered.setupFailure;
    if (!link.recovered.ready) {
      const { setupEgress } = spec;
      this.#step("setup", "started", setupEgress === undefined ? null : `egress ${setupEgress}`);
      const done = await runCachedSetup(this.#options, spec, this.#stop.signal);
      failure = done.failure;
      if (done.note !== null) this.#session?.addNote(done.note);
      this.#step("setup", "ended", done.detail);
      link.emit("ready", {});
    }
    if (spec.setup.length > 0) {
      // From the record of `ready` on the setup's access is closed; an agent's work comes after it.
      await link.flush(this.#stop.signal);
      await this.#restore(spec, link.recovered.ready);
    }
    this.#options.variables.enter(await link.variables(this.#stop.signal));
    if (failure !== null)
      this.#session?.addNote(
        `This repository's setup failed before you started. Fix it if the task needs it.\n${failure}`,
      );
    return { type: "ok" };
  }

  async #agent(spec: WorkerSpec, deadline: Deadline): Promise<AttemptEvent> {
    const { agents, link } = this.#options;
    const name = spec.program?.protocol ?? spec.agent;
    const agent = Object.hasOwn(agents, name) ? agents[name] : undefined;
    if (agent === undefined || this.#session === null) throw new Error(`this worker has no agent "${spec.agent}"`);
    // An agent program starts its MCP servers itself, if it can.
    const servers = spec.program === undefined ? (spec.mcpServers ?? {}) : {};
    const mcp = await this.#options.openMcp(servers, this.#stop.signal);
    for (const text of mcp.problems) link.emit("notice", { level: "warning", code: "mcp_problem", text });
    this.#session.addTools(mcp.tools);
    deadline.mark(spec.wallMs * (1 - TIME_WARNING_SHARE), () => this.#warnAboutTime(spec));
    deadline.start();
    try {
      const { title, summary, verified = null } = await agent.run(this.#session);
      this.#verified = verified;
      return { type: "worked", title, summary };
    } finally {
      await mcp.close();
    }
  }

  #warnAboutTime({ wallMs }: WorkerSpec): void {
    const text = `${formatShareOfTime(wallMs * TIME_WARNING_SHARE, wallMs)} are used.`;
    this.#options.link.emit("notice", { level: "warning", code: "budget_near", text });
  }

  async #verify(spec: WorkerSpec, deadline: Deadline): Promise<AttemptEvent> {
    const results = this.#verified ?? (await verify(this.#options, spec, this.#stop.signal));
    const lines = results.map(({ command, exitCode }) => {
      if (exitCode === 0) return `- \`${command}\`: passed`;
      const text = `${command} did not pass.`;
      this.#options.link.emit("notice", { level: "warning", code: "verify_failed", text });
      return `- \`${command}\`: failed (${exitCode === null ? "stopped" : `exit code ${exitCode}`})`;
    });
    deadline.stop();
    return { type: "verified", note: lines.length === 0 ? null : `Verification:\n${lines.join("\n")}` };
  }

  async #commit(state: AttemptState): Promise<AttemptEvent> {
    const { workspace, variables } = this.#options;
    const signal = this.#stop.signal;
    const { title, summary } = state.context;
    const report = variables.secrets.redactValue({ title, summary });
    const sha = await retryUnreachable(this.#options, signal, async () => await workspace.finalCommit(report, signal));
    return { type: "committed", sha };
  }

  async #report(state: AttemptState): Promise<AttemptEvent> {
    const { link } = this.#options;
    const { outcome, title, summary } = state.context;
    if (outcome?.kind === "finished") link.emit("finished", { sha: outcome.sha, title, summary });
    if (outcome?.kind === "failed")
      link.emit("failed", { code: outcome.code, message: outcome.message, evidence: outcome.evidence });
    await link.flush(this.#giveUp.signal);
    return { type: "ok" };
  }
}
