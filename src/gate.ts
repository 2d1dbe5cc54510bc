/**
 * The gate: who may enter provisioning, and when.
 *
 * G1 The rows are the queue; p-queue only throttles. Free slots are counted from the store before each claim (rule D4).
 * G2 A slot is held from the claim until the attempt's sandbox is cleared, whatever ends the attempt (rule D5).
 * G3 Claims run one batch at a time, so two claims never see the same free slot.
 * G4 More than `breakerLimit` infrastructure failures in `breakerWindowMs` pause claiming (rule D9) until the sandbox engine answers again.
 */
import PQueue from "p-queue";
import type { Coordinator } from "./coordinator.ts";
import { messageOf } from "./error.ts";
import type { Clock, Log, Sandbox, Store } from "./ports.ts";
import type { QueueState } from "./service.ts";
import type { Task, Wait } from "./task.ts";

export interface GateDeps {
  readonly coordinator: Coordinator;
  readonly store: Store;
  readonly sandbox: Sandbox;
  readonly clock: Clock;
  readonly log: Log;
  readonly maxConcurrent: number;
  /** Slots that one user may hold; null = no limit. */
  readonly userLimit: number | null;
  readonly breakerLimit: number;
  readonly breakerWindowMs: number;
  /** How long an open breaker waits before it asks the engine again, ms. */
  readonly breakerRestMs: number;
}

export interface Gate {
  /** Claims what may be claimed now. Safe to call at any time, any number of times. */
  poke(): void;
  /** Begins or ends claiming (boot, shutdown). */
  open(): void;
  shut(): Promise<void>;
  /** The task holds a slot already (adopted at boot). */
  adopt(taskId: string): void;
  release(taskId: string): void;
  pause(paused: boolean): Promise<void>;
  noteInfraFailure(): void;
  /** Closes an open breaker when its rest is over and the engine answers. */
  probe(): Promise<void>;
  state(): QueueState;
  wait(task: Task): Promise<Wait>;
  used(): number;
}

const BATCH = 64;
const PAUSED = "queue.paused";

export async function createGate(deps: GateDeps): Promise<Gate> {
  const { coordinator, store, sandbox, clock, log, maxConcurrent, userLimit } = deps;
  const slots = new PQueue({ concurrency: maxConcurrent });
  const held = new Map<string, () => void>();
  let paused = (await store.setting(PAUSED)) === "1";
  let claiming: Promise<void> | null = null;
  let again = false;
  let isOpen = false;
  let failures: number[] = [];
  let brokenSince: number | null = null;
  let brokenReason = "";

  /** Occupies one place of the p-queue until `release`. */
  function hold(taskId: string): void {
    if (held.has(taskId)) return;
    const free = new Promise<void>((resolve) => held.set(taskId, resolve));
    void slots.add(() => free);
  }

  function release(taskId: string): void {
    held.get(taskId)?.();
    if (held.delete(taskId)) poke();
  }

  async function claim(taskId: string): Promise<void> {
    hold(taskId);
    try {
      const { events } = await coordinator.record(taskId, (task) => [
        { type: "task.state", data: { reason: "claimed" }, attempt: task.snapshot.context.attempt + 1 },
      ]);
      if (events.length === 0) release(taskId);
    } catch (error) {
      release(taskId);
      log.error({ task: taskId, error: messageOf(error) }, "a claim failed");
    }
  }

  function blocked(): boolean {
    return !isOpen || paused || brokenSince !== null;
  }

  async function claimAll(): Promise<void> {
    do {
      again = false;
      if (blocked()) return;
      // The places of the p-queue and the rows may differ for a moment (a sandbox is being cleared): the smaller number counts.
      const free = Math.min(BATCH, maxConcurrent - held.size, maxConcurrent - (await store.slotsHeld()));
      if (free <= 0) return;
      const ids = (await store.claimable(free, userLimit)).filter((id) => !held.has(id));
      await Promise.all(ids.map(claim));
      again ||= ids.length === free;
    } while (again);
  }

  function poke(): void {
    if (claiming !== null) {
      again = true;
      return;
    }
    if (blocked() || held.size >= maxConcurrent) return;
    claiming = claimAll()
      .catch((error: unknown) => log.error({ error: messageOf(error) }, "claiming failed"))
      .finally(() => {
        claiming = null;
        if (again) poke();
      });
  }

  return {
    poke,
    release,
    adopt: hold,
    open() {
      isOpen = true;
      poke();
    },
    async shut() {
      isOpen = false;
      await claiming;
    },
    async pause(value) {
      await store.setSetting(PAUSED, value ? "1" : null);
      paused = value;
      if (!value) poke();
    },
    noteInfraFailure() {
      const now = clock.now();
      failures = [...failures.filter((at) => now - at < deps.breakerWindowMs), now];
      if (failures.length > deps.breakerLimit && brokenSince === null) {
        brokenSince = now;
        brokenReason = `${failures.length} infrastructure failures in ${Math.round(deps.breakerWindowMs / 1_000)} s`;
        log.error({ failures: failures.length }, "claiming is paused: the sandbox engine keeps failing");
      }
    },
    async probe() {
      if (brokenSince === null || clock.now() - brokenSince < deps.breakerRestMs) return;
      try {
        await sandbox.check();
        brokenSince = null;
        failures = [];
        log.info({}, "the sandbox engine answers again; claiming goes on");
        poke();
      } catch (error) {
        brokenSince = clock.now();
        brokenReason = messageOf(error) || "the sandbox engine does not answer";
      }
    },
    state() {
      const reason = paused ? "An operator paused the queue." : brokenSince !== null ? brokenReason : null;
      return { paused, breaker: brokenSince === null ? "closed" : "open", reason };
    },
    async wait(task) {
      const position = await store.position(task.id);
      if (paused) return { reason: "paused", position };
      if (brokenSince !== null) return { reason: "sandbox_unavailable", position };
      const full = userLimit !== null && (await store.slotsHeld(task.userId)) >= userLimit;
      return { reason: full ? "user_limit" : "concurrency", position };
    },
    used: () => held.size,
  };
}
