/**
 * Runs one attempt: the stage that the chart names, then what the chart says next.
 *
 * The loop knows no order of stages; machines/attempt.ts does. Anything that carries a Link, a
 * Workspace and tools can run it, in a process of its own (main.ts) or inside of another program.
 */
import { startAttempt, stepAttempt, type AttemptEvent, type AttemptState } from "../machines/attempt.ts";
import { isAbort, errorMessage } from "../src/core/error.ts";
import { WORKER_EXIT, type WorkerSpec } from "../src/core/protocol/worker.ts";
import { WorkerExit, type Agent } from "./agents/agent.ts";
import { Deadline } from "./lib/deadline.ts";
import { toAttemptFailure } from "./lib/fault.ts";
import { NO_INSTRUCTIONS, readInstructions } from "./workspace/instructions.ts";
import { waitingForPeople, Session, type WorkerParts } from "./session.ts";
import type { McpServers } from "../src/core/values/mcp-servers.ts";
import type { McpClients } from "./mcp/client.ts";
import { runSetup } from "./workspace/setup.ts";
import { openTranscript } from "./connection/transcript.ts";
import { verify, type Verified } from "./workspace/verify.ts";

/** A person hears once that so much of the time is used. */
const NEAR_SHARE = 0.8;
/** From the wish to cancel to giving up on saving and reporting. */
const LAST_WORDS_MS = 8_000;

export interface RunOptions extends WorkerParts {
  readonly agents: Readonly<Record<string, Agent>>;
  /** Starts servers of tools. */
  openMcp(servers: McpServers, signal: AbortSignal): Promise<McpClients>;
  /** Aborted = cancel: stop the tools, save the work, end. */
  readonly signal: AbortSignal;
}

/** Why the current stage is interrupted. */
class Interrupt extends Error {
  readonly event: "cancel" | "deadline";

  constructor(event: "cancel" | "deadline") {
    super(event);
    this.name = "Interrupt";
    this.event = event;
  }
}

/**
 * @returns the exit code of the worker (WORKER_EXIT, or what a scripted agent asked for). Never
 * rejects.
 */
export async function runAttempt(options: RunOptions): Promise<number> {
  const run = new AttemptRun(options);
  try {
    return await run.toTheEnd();
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
  /** Interrupts what runs before the winding down. */
  readonly #stop = new AbortController();
  /** Ends the last words. */
  readonly #patience = new AbortController();
  readonly #done = new AbortController();
  #session: Session | null = null;
  #deadline: Deadline | null = null;
  /**
   * What the checks said at the very end of the agent's work; null = they have not been run then.
   */
  #verified: readonly Verified[] | null = null;

  constructor(options: RunOptions) {
    this.#options = options;
    const { signal, link } = options;
    this.#on(signal, () => this.#cancel(LAST_WORDS_MS));
    this.#on(link.over, () => {
      this.#stop.abort(link.over.reason);
      this.#patience.abort(link.over.reason);
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

  async toTheEnd(): Promise<number> {
    const { link } = this.#options;
    let spec: WorkerSpec;
    try {
      spec = await link.spec(this.#stop.signal);
    } catch (thrown) {
      if (this.isOver || !this.#stop.signal.aborted) throw thrown;
      return WORKER_EXIT.lost;
    }
    if (link.recovered.reported) {
      await link.flush(this.#patience.signal);
      return WORKER_EXIT.reported;
    }
    void this.#watchForCancel();
    this.#deadline = new Deadline(this.#options.clock, spec.wallMs, () => this.#stop.abort(new Interrupt("deadline")));
    let state = startAttempt();
    let delivered = true;
    while (state.value !== "ended") {
      const event = await this.#outcome(state, spec, this.#deadline);
      // A cancelled attempt has no report: what it has to deliver is the saved work.
      const counts =
        state.value === "report" || (state.value === "winding_down" && state.context.outcome?.kind === "cancelled");
      if (counts && event.type !== "ok") delivered = false;
      state = stepAttempt(state, event);
    }
    return delivered ? WORKER_EXIT.reported : WORKER_EXIT.lost;
  }

  #on(signal: AbortSignal, act: () => void): void {
    if (signal.aborted) return act();
    signal.addEventListener("abort", act, { once: true, signal: this.#done.signal });
  }

  #cancel(lastWordsMs: number): void {
    this.#stop.abort(new Interrupt("cancel"));
    const { clock } = this.#options;
    clock.sleep(lastWordsMs, this.#done.signal).then(
      () => this.#patience.abort(),
      () => {},
    );
  }

  async #watchForCancel(): Promise<void> {
    try {
      const command = await this.#options.link.inbox.waitFor((c) => c.type === "cancel", this.#done.signal);
      const graceMs = command.type === "cancel" ? command.graceMs : LAST_WORDS_MS;
      this.#cancel(Math.min(LAST_WORDS_MS, Math.max(1_000, graceMs / 2)));
    } catch (thrown) {
      if (!isAbort(thrown)) throw thrown;
    }
  }

  /**
   * Runs the state's stage; whatever goes wrong becomes an event, but for a stale attempt and a
   * wanted crash.
   */
  async #outcome(state: AttemptState, spec: WorkerSpec, deadline: Deadline): Promise<AttemptEvent> {
    const stop = this.#stop.signal;
    try {
      if (state.value !== "winding_down" && state.value !== "report") stop.throwIfAborted();
      return await this.#stage(state, spec, deadline);
    } catch (thrown) {
      if (this.isOver) throw this.#options.link.over.reason;
      if (thrown instanceof WorkerExit) throw thrown;
      if (stop.reason instanceof Interrupt && state.value !== "winding_down" && state.value !== "report")
        return { type: stop.reason.event };
      return { type: "failed", ...toAttemptFailure(thrown, state.value) };
    }
  }

  async #stage(state: AttemptState, spec: WorkerSpec, deadline: Deadline): Promise<AttemptEvent> {
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
        await this.#session?.saveLast(this.#patience.signal);
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
    this.#step("clone", "started", spec.resume === null ? null : "going on from saved work");
    await waitingForPeople(this.#options, signal, async () => await workspace.open(spec, signal));
    this.#step("clone", "ended", `${spec.base} at ${(spec.resume?.sha ?? spec.baseSha).slice(0, 12)}`);
    const transcript = await openTranscript(link, spec.transcript, signal);
    const place = { root: workspace.root, baseSha: spec.baseSha };
    // A script asks for no advice.
    const instructions = spec.agent === "scripted" ? NO_INSTRUCTIONS : await readInstructions(place, signal);
    this.#session = new Session(this.#options, { spec, transcript, instructions, deadline, signal });
    for (const { id, name } of link.recovered.openTools) {
      const output = "[interrupted: the worker was started again; look before you repeat it]";
      link.emit("tool.finished", { id, name, output, exitCode: null, ms: 0, truncated: false });
    }
    return { type: "ok" };
  }

  #step(name: "connect" | "clone" | "setup", status: "started" | "ended", detail: string | null): void {
    if (!this.#options.link.recovered.ready) this.#options.link.emit("task.step", { name, status, detail });
  }

  async #setup(spec: WorkerSpec): Promise<AttemptEvent> {
    const { link } = this.#options;
    let failure = link.recovered.setupFailure;
    if (!link.recovered.ready) {
      this.#step("setup", "started", null);
      failure = await runSetup(this.#options, spec.setup, this.#stop.signal);
      this.#step("setup", "ended", failure === null ? null : "failed");
      link.emit("ready", {});
    }
    if (failure !== null)
      this.#session?.addNote(
        `Before you began, this repository's own setup failed; mend it if the task needs it.\n${failure}`,
      );
    return { type: "ok" };
  }

  async #agent(spec: WorkerSpec, deadline: Deadline): Promise<AttemptEvent> {
    const { agents, link } = this.#options;
    const name = spec.acpCommand === undefined ? spec.agent : "acp";
    const agent = Object.hasOwn(agents, name) ? agents[name] : undefined;
    if (agent === undefined || this.#session === null) throw new Error(`this worker has no agent "${spec.agent}"`);
    // An agent program starts its servers itself.
    const mcp = await this.#options.openMcp(name === "acp" ? {} : (spec.mcpServers ?? {}), this.#stop.signal);
    for (const text of mcp.problems) link.emit("notice", { level: "warning", code: "mcp_problem", text });
    this.#session.addTools(mcp.tools);
    deadline.mark(spec.wallMs * (1 - NEAR_SHARE), () => this.#tellThatTimeEnds(spec));
    deadline.start();
    try {
      const { title, summary, verified = null } = await agent.run(this.#session);
      this.#verified = verified;
      return { type: "worked", title, summary };
    } finally {
      await mcp.close();
    }
  }

  #tellThatTimeEnds({ wallMs }: WorkerSpec): void {
    const minutes = (ms: number): string => (ms / 60_000).toFixed(ms < 600_000 ? 1 : 0);
    const text = `${minutes(wallMs * NEAR_SHARE)} of ${minutes(wallMs)} minutes are used.`;
    this.#options.link.emit("notice", { level: "warning", code: "budget_near", text });
  }

  async #verify(spec: WorkerSpec, deadline: Deadline): Promise<AttemptEvent> {
    const lines: string[] = [];
    for (const { command, exitCode } of this.#verified ??
      (await verify(this.#options, spec.verify, this.#stop.signal))) {
      lines.push(
        `- \`${command}\`: ${exitCode === 0 ? "passed" : `failed (${exitCode === null ? "stopped" : `exit code ${exitCode}`})`}`,
      );
      const text = `${command} did not pass.`;
      if (exitCode !== 0) this.#options.link.emit("notice", { level: "warning", code: "verify_failed", text });
    }
    deadline.stop();
    return { type: "verified", note: lines.length === 0 ? null : `Verification:\n${lines.join("\n")}` };
  }

  async #commit(state: AttemptState): Promise<AttemptEvent> {
    const { workspace } = this.#options;
    const signal = this.#stop.signal;
    const sha = await waitingForPeople(
      this.#options,
      signal,
      async () => await workspace.finalCommit(state.context.title, signal),
    );
    return { type: "committed", sha };
  }

  async #report(state: AttemptState): Promise<AttemptEvent> {
    const { link } = this.#options;
    const { outcome, title, summary } = state.context;
    if (outcome?.kind === "finished") link.emit("finished", { sha: outcome.sha, title, summary });
    if (outcome?.kind === "failed")
      link.emit("failed", { code: outcome.code, message: outcome.message, evidence: outcome.evidence });
    await link.flush(this.#patience.signal);
    return { type: "ok" };
  }
}
