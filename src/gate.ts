/**
 * The gate: who may enter provisioning, and when.
 *
 * G1 The rows are the queue; p-queue only throttles. Free slots are counted from the store before each claim (rule D4).
 * G2 A slot is held from the claim until the attempt's sandbox is cleared, whatever ends the attempt (rule D5).
 * G3 Claims run one batch at a time, so two claims never see the same free slot.
 * G4 After an infrastructure failure the engine is asked before the next claim; while it does not answer, claiming is paused and it is asked at
 *    each probe. More than `breakerLimit` such failures in `breakerWindowMs` of an engine that does answer pause claiming for `breakerRestMs` (rule D9).
 * G5 With too little free disk space nothing is claimed, and nothing fails for it; it is looked at before claims and at each probe (rule D10).
 */
import PQueue from "p-queue";
import type { Coordinator } from "./coordinator.ts";
import { messageOf } from "./error.ts";
import type { Clock, Log, Sandbox } from "./ports.ts";
import type { Store } from "./store-port.ts";
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
  /** How long claiming rests when the engine answers and attempts fail all the same, ms. */
  readonly breakerRestMs: number;
  /** Why there is too little disk space, in words; null when there is enough. */
  readonly shortage: () => Promise<string | null>;
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
  /** Closes an open breaker when the engine answers and the rest, if there is one, is over. */
  probe(): Promise<void>;
  state(): QueueState;
  wait(task: Task): Promise<Wait>;
  used(): number;
}

const BATCH = 64;
const PAUSED = "queue.paused";
/** Longest wait for the engine's answer. */
const CHECK_MS = 5_000;
/** One look at the disks serves for this long, ms. */
const DISK_MS = 1_000;

export async function createGate(deps: GateDeps): Promise<Gate> {
  const { coordinator, store, sandbox, clock, log, maxConcurrent, userLimit } = deps;
  const slots = new PQueue({ concurrency: maxConcurrent });
  const held = new Map<string, () => void>();
  let paused = (await store.setting(PAUSED)) === "1";
  let claiming: Promise<void> | null = null;
  let again = false;
  let isOpen = false;
  let failures: number[] = [];
  let broken: { readonly until: number; readonly reason: string } | null = null;
  /** An attempt failed in a way that may be the engine's, and the engine has not been asked since. */
  let suspect = false;
  let disks: { readonly at: number; readonly shortage: string | null } = { at: -Infinity, shortage: null };
  let probing: Promise<boolean> | null = null;

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
    return !isOpen || paused || broken !== null;
  }

  async function hasRoom(): Promise<boolean> {
    const now = clock.now();
    if (now - disks.at < DISK_MS) return disks.shortage === null;
    const before = disks.shortage;
    disks = { at: now, shortage: before };
    const shortage = await deps.shortage();
    disks = { at: now, shortage };
    if (shortage !== null && before === null) log.error({ shortage }, "claiming is paused: there is too little disk space");
    if (shortage === null && before !== null) log.info({}, "there is disk space again; claiming goes on");
    return shortage === null;
  }

  /** Asks the engine, one question at a time. */
  function answers(): Promise<boolean> {
    probing ??= sandbox
      .check(AbortSignal.timeout(CHECK_MS))
      .then(
        () => true,
        (error: unknown) => {
          if (broken === null) log.error({ error: messageOf(error) }, "claiming is paused: the sandbox engine does not answer");
          broken = { until: 0, reason: messageOf(error) || "The sandbox engine does not answer." };
          return false;
        },
      )
      .finally(() => (probing = null));
    return probing;
  }

  async function claimAll(): Promise<void> {
    do {
      again = false;
      if (blocked() || !(await hasRoom()) || blocked()) return;
      if (suspect) {
        suspect = false;
        if (!(await answers()) || blocked()) return;
      }
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
      suspect = true;
      failures = [...failures.filter((at) => now - at < deps.breakerWindowMs), now];
      if (failures.length > deps.breakerLimit && broken === null) {
        const reason = `${failures.length} infrastructure failures in ${Math.round(deps.breakerWindowMs / 1_000)} s`;
        broken = { until: now + deps.breakerRestMs, reason };
        log.error({ failures: failures.length }, "claiming is paused: the sandbox engine keeps failing");
      }
    },
    async probe() {
      const wasLow = disks.shortage !== null;
      if ((await hasRoom()) && wasLow) poke();
      if (broken === null || clock.now() < broken.until || !(await answers())) return;
      broken = null;
      suspect = false;
      failures = [];
      log.info({}, "the sandbox engine answers; claiming goes on");
      poke();
    },
    state() {
      const reason = paused ? "An operator paused the queue." : (broken?.reason ?? disks.shortage);
      return { paused, breaker: broken === null ? "closed" : "open", disk: disks.shortage === null ? "ok" : "low", reason };
    },
    async wait(task) {
      const position = await store.position(task.id);
      if (paused) return { reason: "paused", position };
      if (broken !== null) return { reason: "sandbox_unavailable", position };
      if (disks.shortage !== null) return { reason: "disk_low", position };
      const full = userLimit !== null && (await store.slotsHeld(task.userId)) >= userLimit;
      return { reason: full ? "user_limit" : "concurrency", position };
    },
    used: () => held.size,
  };
}
