/**
 * The contract of the Sandbox port, run against every adapter. The workers are stand-ins
 * (test/support/process/stand-in-worker.mjs) whose token selects their behaviour.
 */
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { extract } from "tar-stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Limits } from "../../src/core/task.ts";
import type { Peer } from "../support/process/sandbox-peer.ts";
import { PATIENCE_MS } from "../support/vitest/patience.ts";
import type { Sandbox, SandboxExit, SandboxSpec } from "../../src/core/ports/sandbox.ts";

export interface SandboxRig {
  /** Parent of the socket folders; absent = the folder for temporary files. */
  readonly socketBase?: string;
  /** Opens the adapter, always on the same engine and installation. The rig closes it. */
  open(): Sandbox;
  /** A second coordinator process; absent if sandboxes do not outlive their process. */
  peer?(spec: SandboxSpec, crashAt?: string): Peer;
  /** Kills and removes a sandbox without the adapter. */
  vanish?(name: string): Promise<void>;
  /** Kills only the worker, without the adapter. */
  killWorker?(name: string): Promise<void>;
  /** True once the engine has reported an out-of-memory kill in the sandbox. */
  isOutOfMemory?(name: string): Promise<boolean>;
  /** Removes all sandboxes of this rig and closes the adapters. */
  close(): Promise<void>;
}

export interface SandboxCapabilities {
  /** Real processes: logs, signals, environment, a socket. */
  readonly processes: boolean;
  readonly outOfMemory: boolean;
  /** Crash points of ensure, in order. */
  readonly crashpoints: readonly string[];
}

const never = new AbortController().signal;
let serial = 0;

/** Contents of files and targets of links, by name. */
async function readEntries(tar: AsyncIterable<Uint8Array> | null): Promise<Map<string, string>> {
  const reader = extract();
  const found = new Map<string, string>();
  Readable.from(tar ?? []).pipe(reader as unknown as NodeJS.WritableStream);
  for await (const entry of reader) {
    const parts: Buffer[] = [];
    for await (const part of entry) parts.push(part as Buffer);
    found.set(
      entry.header.name,
      entry.header.type === "symlink" ? `-> ${entry.header.linkname}` : Buffer.concat(parts).toString(),
    );
  }
  return found;
}

function countStarts(exit: SandboxExit): number {
  return exit.tail.split("\n").filter((line) => line.startsWith("started attempt")).length;
}

/** Waits for the condition; throws after `ms`. */
export async function eventually(isTrue: () => Promise<boolean>, what: string, ms = PATIENCE_MS): Promise<void> {
  for (const end = Date.now() + ms; !(await isTrue()); await new Promise((resolve) => setTimeout(resolve, 20))) {
    if (Date.now() > end) throw new Error(`never: ${what}`);
  }
}

export function sandboxContract(
  name: string,
  openRig: () => Promise<SandboxRig>,
  capabilities: SandboxCapabilities,
): void {
  describe(`${name} keeps the sandbox contract`, () => {
    let rig: SandboxRig;
    let sandbox: Sandbox;
    let socketDir: string;
    /** One socket folder per attempt; the broker listens in the first. */
    let folders: string[];
    let specs: number;
    let broker: Server;
    /** Stand-ins that have installed their signal handlers. */
    let ready: number;

    beforeEach(async () => {
      ready = 0;
      rig = await openRig();
      sandbox = rig.open();
      folders = [];
      specs = 0;
      socketDir = folder();
      broker = await serve((socket) => socket.on("data", (word) => (ready += String(word) === "up" ? 1 : 0)));
      await sandbox.prepare(() => undefined, never);
      await sandbox.maintainPool({ grow: true }, never);
    });

    afterEach(async () => {
      await rig.close();
      await closeServer(broker);
      for (const path of folders) rmSync(path, { recursive: true, force: true });
    });

    function folder(): string {
      const path = mkdtempSync(join(rig.socketBase ?? tmpdir(), "slipway-sock-"));
      chmodSync(path, 0o755);
      folders.push(path);
      return path;
    }

    async function serve(answer: (socket: Socket) => void): Promise<Server> {
      const path = join(socketDir, "b.sock");
      const server = createServer((socket) => answer(socket.on("error", () => undefined)));
      await new Promise<void>((resolve) => server.listen(path, resolve));
      chmodSync(path, 0o666);
      return server;
    }

    function closeServer(server: Server): Promise<void> {
      return new Promise((resolve) => (server.listening ? server.close(() => resolve()) : resolve()));
    }

    /** Waits until the worker has installed its handlers. */
    async function started(): Promise<void> {
      await eventually(async () => ready > 0, "the worker is up");
    }

    function createSpec(token: string, limits: Limits = {}): SandboxSpec {
      const taskId = `tsk_${process.pid}x${Date.now().toString(36)}x${++serial}`;
      const attemptDir = specs++ === 0 ? socketDir : folder();
      return { name: `slipway-${taskId}-a1`, taskId, attempt: 1, socketDir: attemptDir, token, limits };
    }

    async function getState(spec: SandboxSpec): Promise<string | null> {
      return (await sandbox.list()).find(({ name }) => name === spec.name)?.state ?? null;
    }

    async function runs(token: string, limits?: Limits): Promise<SandboxSpec> {
      const spec = createSpec(token, limits);
      await sandbox.ensure(spec, never);
      return spec;
    }

    it("describes itself in one line", async () => {
      expect(await sandbox.check()).toMatch(/^.{10,300}$/);
    });

    it("[D1] repeated and concurrent ensures create one sandbox", async () => {
      const spec = createSpec("sleep");
      await Promise.all([sandbox.ensure(spec, never), sandbox.ensure(spec, never)]);
      await sandbox.ensure(spec, never);
      expect(await sandbox.list()).toEqual([{ name: spec.name, taskId: spec.taskId, attempt: 1, state: "running" }]);
      if (capabilities.processes) await started();
      await sandbox.stop(spec.name, 10_000);
      if (capabilities.processes) expect(countStarts(await sandbox.wait(spec.name, never))).toBe(1);
    });

    it("reports the exit code, also to a later wait", async () => {
      const spec = await runs("exit:7");
      const exit = await sandbox.wait(spec.name, never);
      expect(exit).toMatchObject({ exitCode: 7, outOfMemory: false });
      expect(await sandbox.wait(spec.name, never)).toMatchObject({ exitCode: 7 });
      expect(await getState(spec)).toBe("exited");
      const clean = await runs("exit:0");
      expect(await sandbox.wait(clean.name, never)).toMatchObject({ exitCode: 0, outOfMemory: false });
    });

    it("[D1] does not start an exited sandbox again", async () => {
      const spec = await runs("exit:7");
      await sandbox.wait(spec.name, never);
      await sandbox.ensure(spec, never);
      const again = await sandbox.wait(spec.name, never);
      expect(again.exitCode).toBe(7);
      if (capabilities.processes) expect(countStarts(again)).toBe(1);
    });

    it("an aborted wait rejects, and the sandbox keeps running", async () => {
      const spec = await runs("sleep");
      const abort = new AbortController();
      const waiting = sandbox.wait(spec.name, abort.signal);
      setTimeout(() => abort.abort(), 100);
      await expect(waiting).rejects.toMatchObject({ name: "AbortError" });
      expect(await getState(spec)).toBe("running");
    });

    it("ensure with an aborted signal rejects and creates nothing", async () => {
      const spec = createSpec("sleep");
      await expect(sandbox.ensure(spec, AbortSignal.abort())).rejects.toMatchObject({ name: "AbortError" });
      expect(await getState(spec)).toBe(null);
    });

    it("[D7] stop, remove and wait of an unknown name resolve", async () => {
      await sandbox.stop("slipway-nobody-a1", 1_000);
      await sandbox.remove("slipway-nobody-a1");
      expect(await sandbox.wait("slipway-nobody-a1", never)).toEqual({
        exitCode: null,
        outOfMemory: false,
        diskFull: false,
        tail: "",
      });
    });

    it("remove ends a running sandbox, and is idempotent", async () => {
      const spec = await runs("sleep");
      const waiting = sandbox.wait(spec.name, never);
      await Promise.all([sandbox.remove(spec.name), sandbox.remove(spec.name)]);
      await waiting;
      expect(await getState(spec)).toBe(null);
      await sandbox.remove(spec.name);
      expect((await sandbox.wait(spec.name, never)).exitCode).toBe(null);
    });

    it("lists sandboxes with task, attempt and state", async () => {
      const running = await runs("sleep");
      const exited = await runs("exit:0");
      await sandbox.wait(exited.name, never);
      const found = new Map((await sandbox.list()).map((info) => [info.name, info]));
      expect(found.get(running.name)).toEqual({
        name: running.name,
        taskId: running.taskId,
        attempt: 1,
        state: "running",
      });
      expect(found.get(exited.name)).toEqual({ name: exited.name, taskId: exited.taskId, attempt: 1, state: "exited" });
      expect(found.size).toBe(2);
    });

    it("close rejects waits and keeps sandboxes running", async () => {
      const spec = await runs("sleep");
      const other = rig.open();
      const waiting = other.wait(spec.name, never).then(
        () => "resolved",
        () => "rejected",
      );
      await other.close();
      if (capabilities.processes) expect(await waiting).toBe("rejected");
      expect(await getState(spec)).toBe("running");
    });

    it("salvage of an unknown name is null, and reclaim keeps listed sandboxes", async () => {
      expect(await sandbox.salvage("slipway-nobody-a1", never)).toBe(null);
      const spec = await runs("exit:0");
      await sandbox.wait(spec.name, never);
      for (const mode of ["dry-run", "remove"] as const)
        expect(await sandbox.reclaim(() => Promise.resolve(false), mode, never)).toEqual([]);
      expect(await getState(spec)).toBe("exited");
    });

    describe.runIf(capabilities.processes)("workers", () => workers());
    describe.runIf(capabilities.crashpoints.length > 0)("after a crash of the coordinator", () => crashes());

    function workers(): void {
      it("[D7] stop sends SIGTERM first, and a worker that handles it exits cleanly", async () => {
        const spec = await runs("sleep");
        await started();
        await sandbox.stop(spec.name, 60_000);
        const exit = await sandbox.wait(spec.name, never);
        expect(exit.exitCode).toBe(0);
        expect(exit.tail).toContain("told to stop");
      });

      it("[D7] stop kills a worker that ignores SIGTERM after the grace period, not before", async () => {
        const spec = await runs("deaf");
        await started();
        const begun = Date.now();
        await sandbox.stop(spec.name, 500);
        expect(Date.now() - begun).toBeGreaterThanOrEqual(500);
        expect(Date.now() - begun).toBeLessThan(15_000);
        const exit = await sandbox.wait(spec.name, never);
        expect(exit).toMatchObject({ exitCode: 137, outOfMemory: false });
        expect(exit.tail).toContain("will not stop");
      });

      it("[D7] stop without a grace period kills at once", async () => {
        const spec = await runs("deaf");
        await sandbox.stop(spec.name, 0);
        expect(await getState(spec)).toBe("exited");
      });

      it("returns only the tail of a long log", async () => {
        const spec = await runs("print");
        const { tail, exitCode } = await sandbox.wait(spec.name, never);
        expect(exitCode).toBe(0);
        expect(tail).toContain("line 19999");
        expect(tail).toContain("the last words");
        expect(tail.length).toBeLessThanOrEqual(4_000);
      });

      it("[S1] the worker does not inherit the coordinator's environment", async () => {
        process.env["SLIPWAY_PLANTED"] = "planted-value-4711";
        try {
          const spec = await runs("env");
          const { tail } = await sandbox.wait(spec.name, never);
          expect(tail).toContain("SLIPWAY_SOCKET");
          expect(tail).toContain("SLIPWAY_TOKEN");
          expect(tail).not.toContain("SLIPWAY_PLANTED");
          expect(tail).not.toContain("planted-value-4711");
        } finally {
          delete process.env["SLIPWAY_PLANTED"];
        }
      });

      it("the worker can write to its workspace, home and temporary folder, and has git", async () => {
        const script = `set -e; cd "$SLIPWAY_WORKSPACE"; git init -q .; mkdir -p "$SLIPWAY_STATE"; touch "$SLIPWAY_STATE/journal" "$HOME/x"; mktemp >/dev/null; echo all fine`;
        const { tail, exitCode } = await sandbox.wait((await runs(`run:${script}`)).name, never);
        expect(tail).toContain("all fine");
        expect(exitCode).toBe(0);
      });

      it("[W6] salvage returns the workspace of a killed worker without following links", async () => {
        const mess = `mkdir -p deep/er; echo one > deep/er/a.txt; ln -s /etc/passwd link; ln -s / root; mkfifo pipe; touch ready`;
        const spec = await runs(
          `run:cd "$SLIPWAY_WORKSPACE"; ${mess}; node -e 'require("net").connect(process.env.SLIPWAY_SOCKET).end("up")'; sleep 60`,
        );
        await started();
        await expect(sandbox.salvage(spec.name, never)).rejects.toMatchObject({ code: "internal" });
        await sandbox.stop(spec.name, 0);
        const found = await readEntries(await sandbox.salvage(spec.name, never));
        expect(found.get("workspace/deep/er/a.txt")).toBe("one\n");
        expect([found.get("workspace/link"), found.get("workspace/root")]).toEqual(["-> /etc/passwd", "-> /"]);
        expect([...found.keys()].filter((path) => !path.startsWith("workspace/"))).toEqual([]);
        expect(await readEntries(await sandbox.salvage(spec.name, never))).toEqual(found);
        await sandbox.remove(spec.name);
        expect(await sandbox.salvage(spec.name, never)).toBe(null);
      });

      it("[W6] an aborted salvage ends", async () => {
        const spec = await runs(`run:cd "$SLIPWAY_WORKSPACE"; head -c 30000000 /dev/zero > big`);
        await sandbox.wait(spec.name, never);
        const abort = new AbortController();
        const tar = await sandbox.salvage(spec.name, abort.signal);
        const read = (async () => {
          for await (const _ of tar ?? []) abort.abort();
        })();
        await expect(read).rejects.toThrow();
      });

      it("the worker reaches the broker's socket, and the new one of a restarted broker", async () => {
        let served = 0;
        const answer = (text: string) =>
          serve((socket) => {
            served += 1;
            socket.end(text);
          });
        await closeServer(broker);
        const ask = `node -e 'require("net").connect(process.env.SLIPWAY_SOCKET).on("data", (d) => process.stdout.write(String(d))).on("error", (e) => console.log(e.code))'`;
        const first = await answer("broker-one ");
        const spec = await runs(
          `run:${ask}; for i in $(seq 200); do sleep 0.1; ${ask} | tee /tmp/said-$SLIPWAY_ATTEMPT; grep -q two /tmp/said-$SLIPWAY_ATTEMPT && break; done`,
        );
        await eventually(async () => served > 0, "the worker has reached the first broker");
        await closeServer(first);
        const second = await answer("broker-two ");
        const { tail } = await sandbox.wait(spec.name, never);
        await closeServer(second);
        expect(tail).toContain("broker-one");
        expect(tail).toContain("broker-two");
      });

      // The engine learns of an out-of-memory kill and of an exit independently, so an exit that
      // follows at once may be recorded without it. Here the kill hits a child, and the worker ends
      // only after the engine has reported it.
      it.runIf(capabilities.outOfMemory)(
        "distinguishes a worker that ran out of memory from one that failed",
        async () => {
          const spec = await runs("memory", { memoryMb: 128 });
          await eventually(async () => (await rig.isOutOfMemory?.(spec.name)) === true, "the kill is reported");
          expect(await getState(spec)).toBe("running");
          await sandbox.stop(spec.name, 0);
          expect(await sandbox.wait(spec.name, never)).toMatchObject({ exitCode: 137, outOfMemory: true });
          const failed = await runs("exit:137", { memoryMb: 128 });
          expect(await sandbox.wait(failed.name, never)).toMatchObject({ exitCode: 137, outOfMemory: false });
        },
      );

      it("[D3] detects a sandbox that was removed from outside", async () => {
        const spec = await runs("sleep");
        await started();
        const waiting = sandbox.wait(spec.name, never);
        await rig.vanish?.(spec.name);
        expect((await waiting).exitCode).toBe(null);
        expect(await getState(spec)).toBe(null);
      });

      it("[D2] detects a worker that was killed from outside", async () => {
        const spec = await runs("sleep");
        await started();
        const waiting = sandbox.wait(spec.name, never);
        await rig.killWorker?.(spec.name);
        expect(await waiting).toMatchObject({ exitCode: 137, outOfMemory: false });
      });
    }

    function crashes(): void {
      const peer = (spec: SandboxSpec, crashAt?: string): Peer => {
        if (rig.peer === undefined) throw new Error("this rig has no second process");
        return rig.peer(spec, crashAt);
      };
      /** The worker is started once, runs, and ends on request. */
      const expectGoodEnd = async (spec: SandboxSpec): Promise<void> => {
        await started();
        await sandbox.stop(spec.name, 60_000);
        const exit = await sandbox.wait(spec.name, never);
        expect(exit).toMatchObject({ exitCode: 0, tail: expect.stringContaining("told to stop") });
        expect(countStarts(exit)).toBe(1);
      };

      it("[D1] concurrent ensures of several processes create one sandbox", async () => {
        const spec = createSpec("sleep");
        const peers = [peer(spec), peer(spec), peer(spec)];
        await Promise.all(peers.map((each) => each.waitForOutput("ready")));
        peers.forEach((each) => each.go());
        await Promise.all([sandbox.ensure(spec, never), ...peers.map((each) => each.waitForOutput("ensured"))]);
        expect(await sandbox.list()).toHaveLength(1);
        await started();
        await sandbox.stop(spec.name, 10_000);
        expect(countStarts(await sandbox.wait(spec.name, never))).toBe(1);
      });

      it("[D2] a sandbox outlives a killed coordinator; the next one adopts it and reports its exit", async () => {
        const spec = createSpec("sleep");
        const first = peer(spec);
        await first.waitForOutput("ready");
        first.go();
        await first.waitForOutput("ensured");
        await first.kill();
        expect(await getState(spec)).toBe("running");
        await sandbox.ensure(spec, never);
        await expectGoodEnd(spec);
      });

      it("[D2] an exit without a coordinator is reported by the next one", async () => {
        const spec = createSpec("exit:7");
        const first = peer(spec);
        await first.waitForOutput("ready");
        first.go();
        await first.waitForOutput("ensured");
        await first.kill();
        await eventually(async () => (await getState(spec)) === "exited", "the worker has exited");
        const exit = await sandbox.wait(spec.name, never);
        expect(exit.exitCode).toBe(7);
        expect(countStarts(exit)).toBe(1);
      });

      it("[D7] an adopted sandbox can be stopped", async () => {
        const spec = createSpec("deaf");
        const first = peer(spec);
        await first.waitForOutput("ready");
        first.go();
        await first.waitForOutput("ensured");
        await first.kill();
        await started();
        await sandbox.stop(spec.name, 300);
        expect(await sandbox.wait(spec.name, never)).toMatchObject({ exitCode: 137 });
      });

      it.each([...capabilities.crashpoints])(
        "[D2] after a kill at %s the next ensure results in one running sandbox",
        async (point) => {
          const spec = createSpec("sleep");
          const first = peer(spec, point);
          await first.waitForOutput("ready");
          first.go();
          expect(await first.ended).toBe("SIGKILL");
          expect(["created", "running"]).toContain(await getState(spec));
          await sandbox.ensure(spec, never);
          await expectGoodEnd(spec);
        },
      );

      it("[D7] after a kill between create and start a stop is final", async () => {
        const spec = createSpec("sleep");
        const first = peer(spec, capabilities.crashpoints[0]);
        await first.waitForOutput("ready");
        first.go();
        await first.ended;
        await sandbox.stop(spec.name, 100);
        expect(await getState(spec)).not.toBe("running");
        await sandbox.remove(spec.name);
        expect(await getState(spec)).toBe(null);
      });
    }
  });
}
