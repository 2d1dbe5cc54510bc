/**
 * One suite for every adapter of the Sandbox port. The workers are stand-ins
 * (test/support/process/stand-in-worker.mjs): their token says what they do.
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
import type { Sandbox, SandboxExit, SandboxSpec } from "../../src/core/ports/sandbox.ts";

export interface SandboxRig {
  /** Where the brokers' folders lie; a folder for temporary files unless told. */
  readonly socketBase?: string;
  /** Opens the adapter on the same engine and installation each time. The rig closes it. */
  open(): Sandbox;
  /**
   * Another coordinator process with the same adapter; absent where sandboxes do not outlive their
   * process.
   */
  peer?(spec: SandboxSpec, crashAt?: string): Peer;
  /** Kills and forgets a sandbox behind the adapter's back. */
  vanish?(name: string): Promise<void>;
  /** Kills only the worker behind the adapter's back. */
  murder?(name: string): Promise<void>;
  /** Removes every sandbox of this rig and closes what it opened. */
  close(): Promise<void>;
}

export interface SandboxCapabilities {
  /** Real processes: logs, signals, environment, a socket. */
  readonly processes: boolean;
  readonly outOfMemory: boolean;
  /** Points of ensure at which a coordinator may die, in order. */
  readonly crashpoints: readonly string[];
}

const never = new AbortController().signal;
let serial = 0;

/** Contents of files and targets of links, by name. */
async function entriesOf(tar: AsyncIterable<Uint8Array> | null): Promise<Map<string, string>> {
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

function starts(exit: SandboxExit): number {
  return exit.tail.split("\n").filter((line) => line.startsWith("started attempt")).length;
}

/** Waits until `found` says yes; fails after a generous while. */
export async function eventually(found: () => Promise<boolean>, what: string, ms = 20_000): Promise<void> {
  for (const end = Date.now() + ms; !(await found()); await new Promise((resolve) => setTimeout(resolve, 20))) {
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
    /** An attempt has its folder for itself; the broker listens in the first one's. */
    let folders: string[];
    let specs: number;
    let broker: Server;
    /** Stand-ins that said that they are up. */
    let ups: number;

    beforeEach(async () => {
      ups = 0;
      rig = await openRig();
      sandbox = rig.open();
      folders = [];
      specs = 0;
      socketDir = folder();
      broker = await serve((socket) => socket.on("data", (word) => (ups += String(word) === "up" ? 1 : 0)));
      await sandbox.prepare(() => undefined, never);
      await sandbox.maintainPool("grow", never);
    });

    afterEach(async () => {
      await rig.close();
      await shut(broker);
      for (const one of folders) rmSync(one, { recursive: true, force: true });
    });

    function folder(): string {
      const made = mkdtempSync(join(rig.socketBase ?? tmpdir(), "slipway-sock-"));
      chmodSync(made, 0o755);
      folders.push(made);
      return made;
    }

    async function serve(answer: (socket: Socket) => void): Promise<Server> {
      const path = join(socketDir, "b.sock");
      const server = createServer((socket) => answer(socket.on("error", () => undefined)));
      await new Promise<void>((resolve) => server.listen(path, resolve));
      chmodSync(path, 0o666);
      return server;
    }

    function shut(server: Server): Promise<void> {
      return new Promise((resolve) => (server.listening ? server.close(() => resolve()) : resolve()));
    }

    /** Waits until the worker has installed its handlers. */
    async function started(): Promise<void> {
      await eventually(async () => ups > 0, "the worker is up");
    }

    function specOf(token: string, limits: Limits = {}): SandboxSpec {
      const taskId = `tsk_${process.pid}x${Date.now().toString(36)}x${++serial}`;
      const place = specs++ === 0 ? socketDir : folder();
      return { name: `slipway-${taskId}-a1`, taskId, attempt: 1, socketDir: place, token, limits };
    }

    async function stateOf(spec: SandboxSpec): Promise<string | null> {
      return (await sandbox.list()).find((one) => one.name === spec.name)?.state ?? null;
    }

    async function runs(token: string, limits?: Limits): Promise<SandboxSpec> {
      const spec = specOf(token, limits);
      await sandbox.ensure(spec, never);
      return spec;
    }

    it("says in one line what it is", async () => {
      expect(await sandbox.check()).toMatch(/^.{10,300}$/);
    });

    it("[D1] ensure twice is one sandbox, also at once", async () => {
      const spec = specOf("sleep");
      await Promise.all([sandbox.ensure(spec, never), sandbox.ensure(spec, never)]);
      await sandbox.ensure(spec, never);
      expect(await sandbox.list()).toEqual([{ name: spec.name, taskId: spec.taskId, attempt: 1, state: "running" }]);
      if (capabilities.processes) await started();
      await sandbox.stop(spec.name, 10_000);
      if (capabilities.processes) expect(starts(await sandbox.wait(spec.name, never))).toBe(1);
    });

    it("sees the exit code, and again for whoever asks later", async () => {
      const spec = await runs("exit:7");
      const exit = await sandbox.wait(spec.name, never);
      expect(exit).toMatchObject({ exitCode: 7, outOfMemory: false });
      expect(await sandbox.wait(spec.name, never)).toMatchObject({ exitCode: 7 });
      expect(await stateOf(spec)).toBe("exited");
      const clean = await runs("exit:0");
      expect(await sandbox.wait(clean.name, never)).toMatchObject({ exitCode: 0, outOfMemory: false });
    });

    it("[D1] does not start an exited sandbox again", async () => {
      const spec = await runs("exit:7");
      await sandbox.wait(spec.name, never);
      await sandbox.ensure(spec, never);
      const again = await sandbox.wait(spec.name, never);
      expect(again.exitCode).toBe(7);
      if (capabilities.processes) expect(starts(again)).toBe(1);
    });

    it("wait ends when it is aborted, and the sandbox runs on", async () => {
      const spec = await runs("sleep");
      const abort = new AbortController();
      const waiting = sandbox.wait(spec.name, abort.signal);
      setTimeout(() => abort.abort(), 100);
      await expect(waiting).rejects.toMatchObject({ name: "AbortError" });
      expect(await stateOf(spec)).toBe("running");
    });

    it("ensure refuses an aborted signal and makes nothing", async () => {
      const spec = specOf("sleep");
      await expect(sandbox.ensure(spec, AbortSignal.abort())).rejects.toMatchObject({ name: "AbortError" });
      expect(await stateOf(spec)).toBe(null);
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

    it("remove ends a running sandbox, forgets it, and may be called again", async () => {
      const spec = await runs("sleep");
      const waiting = sandbox.wait(spec.name, never);
      await Promise.all([sandbox.remove(spec.name), sandbox.remove(spec.name)]);
      await waiting;
      expect(await stateOf(spec)).toBe(null);
      await sandbox.remove(spec.name);
      expect((await sandbox.wait(spec.name, never)).exitCode).toBe(null);
    });

    it("lists what exists with its task, attempt and state", async () => {
      const running = await runs("sleep");
      const exited = await runs("exit:0");
      await sandbox.wait(exited.name, never);
      const found = new Map((await sandbox.list()).map((one) => [one.name, one]));
      expect(found.get(running.name)).toEqual({
        name: running.name,
        taskId: running.taskId,
        attempt: 1,
        state: "running",
      });
      expect(found.get(exited.name)).toEqual({ name: exited.name, taskId: exited.taskId, attempt: 1, state: "exited" });
      expect(found.size).toBe(2);
    });

    it("close lets go of waiters and leaves sandboxes alone", async () => {
      const spec = await runs("sleep");
      const other = rig.open();
      const waiting = other.wait(spec.name, never).then(
        () => "resolved",
        () => "rejected",
      );
      await other.close();
      if (capabilities.processes) expect(await waiting).toBe("rejected");
      expect(await stateOf(spec)).toBe("running");
    });

    it("salvage of an unknown name is nothing, and nothing of what is listed is reclaimed", async () => {
      expect(await sandbox.salvage("slipway-nobody-a1", never)).toBe(null);
      const spec = await runs("exit:0");
      await sandbox.wait(spec.name, never);
      for (const mode of ["dry-run", "remove"] as const)
        expect(await sandbox.reclaim(() => Promise.resolve(false), mode, never)).toEqual([]);
      expect(await stateOf(spec)).toBe("exited");
    });

    describe.runIf(capabilities.processes)("its workers", () => workers());
    describe.runIf(capabilities.crashpoints.length > 0)("when coordinators die", () => crashes());

    function workers(): void {
      it("[D7] stop asks first: a worker that listens ends by itself", async () => {
        const spec = await runs("sleep");
        await started();
        await sandbox.stop(spec.name, 20_000);
        const exit = await sandbox.wait(spec.name, never);
        expect(exit.exitCode).toBe(0);
        expect(exit.tail).toContain("told to stop");
      });

      it("[D7] stop kills a worker that ignores SIGTERM, after the grace and not before", async () => {
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

      it("[D7] stop with no grace ends it at once", async () => {
        const spec = await runs("deaf");
        await sandbox.stop(spec.name, 0);
        expect(await stateOf(spec)).toBe("exited");
      });

      it("keeps only the tail of a log that is long", async () => {
        const spec = await runs("print");
        const { tail, exitCode } = await sandbox.wait(spec.name, never);
        expect(exitCode).toBe(0);
        expect(tail).toContain("line 19999");
        expect(tail).toContain("the last words");
        expect(tail.length).toBeLessThanOrEqual(4_000);
      });

      it("[S1] nothing of the coordinator's environment reaches the worker", async () => {
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

      it("the worker has a workspace, a home and a temporary folder to write to, and git", async () => {
        const script = `set -e; cd "$SLIPWAY_WORKSPACE"; git init -q .; mkdir -p "$SLIPWAY_STATE"; touch "$SLIPWAY_STATE/journal" "$HOME/x"; mktemp >/dev/null; echo all fine`;
        const { tail, exitCode } = await sandbox.wait((await runs(`run:${script}`)).name, never);
        expect(tail).toContain("all fine");
        expect(exitCode).toBe(0);
      });

      it("[W6] salvage gives the workspace of a worker that was killed, without following a link", async () => {
        const mess = `mkdir -p deep/er; echo one > deep/er/a.txt; ln -s /etc/passwd link; ln -s / root; mkfifo pipe; touch ready`;
        const spec = await runs(
          `run:cd "$SLIPWAY_WORKSPACE"; ${mess}; node -e 'require("net").connect(process.env.SLIPWAY_SOCKET).end("up")'; sleep 60`,
        );
        await started();
        await expect(sandbox.salvage(spec.name, never)).rejects.toMatchObject({ code: "internal" });
        await sandbox.stop(spec.name, 0);
        const found = await entriesOf(await sandbox.salvage(spec.name, never));
        expect(found.get("workspace/deep/er/a.txt")).toBe("one\n");
        expect([found.get("workspace/link"), found.get("workspace/root")]).toEqual(["-> /etc/passwd", "-> /"]);
        expect([...found.keys()].filter((path) => !path.startsWith("workspace/"))).toEqual([]);
        expect(await entriesOf(await sandbox.salvage(spec.name, never))).toEqual(found);
        await sandbox.remove(spec.name);
        expect(await sandbox.salvage(spec.name, never)).toBe(null);
      });

      it("[W6] salvage ends when it is aborted", async () => {
        const spec = await runs(`run:cd "$SLIPWAY_WORKSPACE"; head -c 30000000 /dev/zero > big`);
        await sandbox.wait(spec.name, never);
        const abort = new AbortController();
        const tar = await sandbox.salvage(spec.name, abort.signal);
        const read = (async () => {
          for await (const _ of tar ?? []) abort.abort();
        })();
        await expect(read).rejects.toThrow();
      });

      it("the worker reaches the broker's socket, and a new one after the broker restarted", async () => {
        const say = (word: string) => serve((socket) => void socket.end(word));
        await shut(broker);
        const ask = `node -e 'require("net").connect(process.env.SLIPWAY_SOCKET).on("data", (d) => process.stdout.write(String(d))).on("error", (e) => console.log(e.code))'`;
        const first = await say("broker-one ");
        const spec = await runs(
          `run:${ask}; for i in $(seq 200); do sleep 0.1; ${ask} | tee /tmp/said-$SLIPWAY_ATTEMPT; grep -q two /tmp/said-$SLIPWAY_ATTEMPT && break; done`,
        );
        await new Promise((resolve) => setTimeout(resolve, 500));
        await shut(first);
        const second = await say("broker-two ");
        const { tail } = await sandbox.wait(spec.name, never);
        await shut(second);
        expect(tail).toContain("broker-one");
        expect(tail).toContain("broker-two");
      });

      // The engine hears of the memory and of the end by two ways: under load the end may be first,
      // and it says nothing of memory then.
      it.runIf(capabilities.outOfMemory)(
        "tells a worker that ran out of memory from one that failed",
        { retry: 2 },
        async () => {
          const spec = await runs("memory", { memoryMb: 128 });
          expect(await sandbox.wait(spec.name, never)).toMatchObject({ exitCode: 137, outOfMemory: true });
        },
      );

      it("[D3] sees a sandbox that vanished from outside", async () => {
        const spec = await runs("sleep");
        await started();
        const waiting = sandbox.wait(spec.name, never);
        await rig.vanish?.(spec.name);
        expect((await waiting).exitCode).toBe(null);
        expect(await stateOf(spec)).toBe(null);
      });

      it("[D2] sees a worker that was killed from outside", async () => {
        const spec = await runs("sleep");
        await started();
        const waiting = sandbox.wait(spec.name, never);
        await rig.murder?.(spec.name);
        expect(await waiting).toMatchObject({ exitCode: 137, outOfMemory: false });
      });
    }

    function crashes(): void {
      const peer = (spec: SandboxSpec, crashAt?: string): Peer => {
        if (rig.peer === undefined) throw new Error("this rig has no second process");
        return rig.peer(spec, crashAt);
      };

      it("[D1] ensure from several processes at once is one sandbox", async () => {
        const spec = specOf("sleep");
        const peers = [peer(spec), peer(spec), peer(spec)];
        await Promise.all(peers.map((one) => one.said("ready")));
        peers.forEach((one) => one.go());
        await Promise.all([sandbox.ensure(spec, never), ...peers.map((one) => one.said("ensured"))]);
        expect(await sandbox.list()).toHaveLength(1);
        await started();
        await sandbox.stop(spec.name, 10_000);
        expect(starts(await sandbox.wait(spec.name, never))).toBe(1);
      });

      it("[D2] a sandbox outlives its SIGKILLed coordinator; the next one adopts it and sees its exit", async () => {
        const spec = specOf("run:sleep 3; exit 7");
        const first = peer(spec);
        await first.said("ready");
        first.go();
        await first.said("ensured");
        await first.kill();
        expect(await stateOf(spec)).toBe("running");
        await sandbox.ensure(spec, never);
        const exit = await sandbox.wait(spec.name, never);
        expect(exit.exitCode).toBe(7);
        expect(starts(exit)).toBe(1);
      });

      it("[D2] an exit while no coordinator lives is seen by the next one", async () => {
        const spec = specOf("exit:7");
        const first = peer(spec);
        await first.said("ready");
        first.go();
        await first.said("ensured");
        await first.kill();
        await new Promise((resolve) => setTimeout(resolve, 1_000));
        const exit = await sandbox.wait(spec.name, never);
        expect(exit.exitCode).toBe(7);
        expect(starts(exit)).toBe(1);
      });

      it("[D7] an adopted sandbox can be stopped", async () => {
        const spec = specOf("deaf");
        const first = peer(spec);
        await first.said("ready");
        first.go();
        await first.said("ensured");
        await first.kill();
        await started();
        await sandbox.stop(spec.name, 300);
        expect(await sandbox.wait(spec.name, never)).toMatchObject({ exitCode: 137 });
      });

      it.each([...capabilities.crashpoints])(
        "[D2] killed at %s, the next ensure makes it one running sandbox",
        async (point) => {
          const spec = specOf("run:sleep 2; exit 7");
          const first = peer(spec, point);
          await first.said("ready");
          first.go();
          expect(await first.ended).toBe("SIGKILL");
          expect(["created", "running"]).toContain(await stateOf(spec));
          await sandbox.ensure(spec, never);
          const exit = await sandbox.wait(spec.name, never);
          expect(exit.exitCode).toBe(7);
          expect(starts(exit)).toBe(1);
        },
      );

      it("[D7] killed after create, a stop is final: nothing starts later", async () => {
        const spec = specOf("sleep");
        const first = peer(spec, capabilities.crashpoints[0]);
        await first.said("ready");
        first.go();
        await first.ended;
        await sandbox.stop(spec.name, 100);
        expect(await stateOf(spec)).not.toBe("running");
        await sandbox.remove(spec.name);
        expect(await stateOf(spec)).toBe(null);
      });
    }
  });
}
