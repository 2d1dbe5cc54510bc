/** The contract of the artifacts port, over both adapters. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { pack as openPack, extract, type Header } from "tar-stream";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { openArtifactFiles } from "../../../src/store/artifacts/artifact-files.ts";
import type { Artifacts } from "../../../src/core/ports/files/artifacts.ts";
import { hasStorage, startStorage, type Storage } from "../../support/hostile/storage.ts";
import { openBucketArtifacts } from "./bucket-rig.ts";

const never = new AbortController().signal;
const TASK = "task_0001";
let dir: string;
let artifacts: Artifacts;

const KEPT = ["the folder", ...(hasStorage ? ["a bucket"] : [])];
let storage: Storage;
let close: () => Promise<void>;
/** Resolves when all that was kept is where it is to stay. */
let settle: () => Promise<unknown>;
beforeAll(async () => {
  if (hasStorage) storage = await startStorage();
});
afterAll(() => storage?.close());

/** Each suite of this file runs over both adapters. */
const suite = (name: string, tests: () => void): void =>
  describe.each(KEPT)(`in %s, ${name}`, (where) => {
    beforeEach(() => {
      dir = mkdtempSync(join(tmpdir(), "slipway-artifacts-"));
      const files = openArtifactFiles({ dir: join(dir, "kept"), maxBytes: 2 ** 20, now: () => 1_000 });
      const isMoved = where === "a bucket";
      const moving = isMoved ? openBucketArtifacts(files, join(dir, "kept"), storage) : null;
      artifacts = moving ?? files;
      close = async () => await moving?.close();
      const waiting = async () => (await files.archives()).filter(({ isHere }) => isHere);
      settle = async () => moving !== null && (await expect.poll(waiting).toEqual([]));
    });
    afterEach(async () => {
      await close();
      rmSync(dir, { recursive: true, force: true });
    });
    tests();
  });

type Entry = Partial<Header> & { name: string; content?: string | Buffer };

/** A tar stream with arbitrary entries. */
async function* createTar(...entries: readonly Entry[]): AsyncGenerator<Uint8Array> {
  const pack = openPack();
  for (const { content = "", ...header } of entries) pack.entry(header, content);
  pack.finalize();
  for await (const chunk of pack) yield chunk as Buffer;
}

interface Kept {
  readonly name: string;
  readonly type: string;
  readonly mode: number;
  readonly text: string;
}

async function readContent(name = "a1-workspace.tar.gz"): Promise<Kept[]> {
  await settle();
  const found = await artifacts.open(TASK, name);
  const chunks: Uint8Array[] = [];
  for await (const chunk of found?.content ?? []) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  expect(createHash("sha256").update(bytes).digest("hex")).toBe(found?.artifact.sha256);
  expect(bytes.length).toBe(found?.artifact.bytes);
  const reader = extract();
  const kept: Kept[] = [];
  reader.end(gunzipSync(bytes));
  for await (const entry of reader) {
    const parts: Buffer[] = [];
    for await (const part of entry) parts.push(part as Buffer);
    kept.push({
      name: entry.header.name,
      type: entry.header.type,
      mode: entry.header.mode,
      text: Buffer.concat(parts).toString(),
    });
  }
  return kept;
}

const keep = (tar: AsyncIterable<Uint8Array>, maxMs = 10_000, attempt = 1) =>
  artifacts.keep({ taskId: TASK, attempt, tar, maxMs }, never);
const file = (name: string, content: string | Buffer = "x"): Entry => ({ name: `workspace/${name}`, content });

suite("[W6] the artifact of a workspace", () => {
  it("contains its files and folders, compressed, with their digest", async () => {
    const kept = await keep(
      createTar({ name: "workspace/", type: "directory" }, file("a.txt", "one"), file("deep/b.txt", "two")),
    );
    expect(kept).toMatchObject({ name: "a1-workspace.tar.gz", attempt: 1, files: 2, note: null, at: 1_000 });
    expect((await readContent()).map(({ name, text }) => [name, text])).toEqual([
      ["workspace/", ""],
      ["workspace/a.txt", "one"],
      ["workspace/deep/b.txt", "two"],
    ]);
    expect(await artifacts.list(TASK)).toEqual([kept]);
    expect(await artifacts.usage()).toMatchObject([{ taskId: TASK }]);
  });

  it("contains no regenerable files and no .git, whose configuration could run commands", async () => {
    const names = [
      "node_modules/x/i.js",
      "sub/node_modules/y",
      ".git/config",
      "sub/.git",
      "a/__pycache__/b",
      ".venv/bin/python",
      ".gitignore",
      "src/git/x",
    ];
    const kept = await keep(createTar(...names.map((name) => file(name))));
    expect((await readContent()).map((one) => one.name)).toEqual(["workspace/.gitignore", "workspace/src/git/x"]);
    expect(kept.note).toBe(null);
  });

  it("[S6] contains no devices, no paths or links to the outside, and no set-id bits", async () => {
    const link = (name: string, linkname: string): Entry => ({ name: `workspace/${name}`, type: "symlink", linkname });
    const kept = await keep(
      createTar(
        { name: "workspace/dev", type: "character-device", devmajor: 1, devminor: 3 },
        { name: "workspace/pipe", type: "fifo" },
        { name: "../outside", content: "x" },
        { name: "/etc/passwd", content: "x" },
        { name: "workspace/../up", content: "x" },
        { name: "elsewhere/x", content: "x" },
        link("root", "/"),
        link("up", "../x"),
        link("deep/up", "../../x"),
        link("here", "."),
        link("chain", "here/here/.."),
        { name: "workspace/hard", type: "link", linkname: "/etc/shadow" },
        { name: "workspace/hidden", type: "link", linkname: "workspace/.git/config" },
        link("fine", "deep/b"),
        link("deep/fine", "../a"),
        { ...file("suid"), mode: 0o6777 },
      ),
    );
    const found = await readContent();
    expect(found.map((one) => one.name)).toEqual([
      "workspace/here",
      "workspace/fine",
      "workspace/deep/fine",
      "workspace/suid",
    ]);
    expect(found.at(-1)?.mode).toBe(0o755);
    expect(kept.note).toBe("Left out: 12 entries are unsafe to unpack.");
  });

  it("stays within its limit: a file that does not fit is left out and reported, a later small one is kept", async () => {
    const kept = await keep(
      createTar(
        file("a", "first"),
        file("huge", Buffer.alloc(2 ** 20)),
        file("b", Buffer.alloc(2 ** 19)),
        file("c", Buffer.alloc(2 ** 19)),
        file("d", "last"),
      ),
    );
    expect((await readContent()).map((one) => one.name)).toEqual(["workspace/a", "workspace/b", "workspace/d"]);
    expect(kept).toMatchObject({ files: 3, note: "Left out: 2 files did not fit into 1 MB." });
  });

  it("is cut off at the time limit when the stream does not end, and keeps what came before", async () => {
    async function* endless(): AsyncGenerator<Uint8Array> {
      const pack = openPack();
      pack.entry({ name: "workspace/a", size: 5 }, "first");
      pack.entry({ name: "workspace/zeros", size: 2 ** 40 });
      for await (const chunk of pack) {
        yield chunk as Buffer;
        if ((chunk as Buffer).includes("zeros")) break;
      }
      for (;;) {
        await new Promise((resolve) => setTimeout(resolve, 1));
        yield Buffer.alloc(65_536);
      }
    }
    const kept = await keep(endless(), 5_000);
    expect(kept.note).toMatch(/^Cut off after/);
    expect((await readContent()).map((one) => [one.name, one.text])).toEqual([["workspace/a", "first"]]);
  });

  it("can be unpacked by tar", async () => {
    await keep(
      createTar(
        { name: "workspace/", type: "directory" },
        file("sub/a.txt", "one"),
        file(`${"long/".repeat(40)}name`, "two"),
      ),
    );
    const into = join(dir, "unpacked");
    mkdirSync(into);
    const chunks: Uint8Array[] = [];
    await settle();
    for await (const chunk of (await artifacts.open(TASK, "a1-workspace.tar.gz"))?.content ?? []) chunks.push(chunk);
    execFileSync("tar", ["xzf", "-", "-C", into], { input: Buffer.concat(chunks) });
    expect(readFileSync(join(into, "workspace/sub/a.txt"), "utf8")).toBe("one");
  });
});

suite("artifacts", () => {
  it("are stored once per attempt: a second salvage returns the first", async () => {
    const first = await keep(createTar(file("a", "one")));
    await settle();
    expect(await keep(createTar(file("a", "two")))).toEqual(first);
    await keep(createTar(file("a", "two")), 10_000, 2);
    expect((await artifacts.list(TASK)).map((one) => one.attempt)).toEqual([1, 2]);
  });

  it("[D2] a broken or aborted stream leaves nothing, and the next attempt starts over", async () => {
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield* createTar(file("a", Buffer.alloc(100_000, 7)));
      throw new Error("the engine went away");
    }
    async function* half(): AsyncGenerator<Uint8Array> {
      for await (const chunk of createTar(file("a", Buffer.alloc(100_000, 7)))) yield chunk.subarray(0, 600);
    }
    await expect(keep(broken())).rejects.toThrow("the engine went away");
    await expect(keep(half())).rejects.toThrow();
    const abort = new AbortController();
    async function* slow(): AsyncGenerator<Uint8Array> {
      yield Buffer.alloc(100);
      abort.abort();
      await new Promise(() => undefined);
    }
    await expect(
      artifacts.keep({ taskId: TASK, attempt: 1, tar: slow(), maxMs: 60_000 }, abort.signal),
    ).rejects.toMatchObject({
      name: "AbortError",
    });
    expect(readdirSync(join(dir, "kept", TASK))).toEqual([]);
    expect(await artifacts.list(TASK)).toEqual([]);
    expect((await keep(createTar(file("a", "one")))).files).toBe(1);
  });

  it("[D2] an archive that a crash left without metadata does not exist and is written again", async () => {
    mkdirSync(join(dir, "kept", TASK), { recursive: true });
    writeFileSync(join(dir, "kept", TASK, "a1-workspace.tar.gz"), "half");
    expect([await artifacts.list(TASK), await artifacts.open(TASK, "a1-workspace.tar.gz")]).toEqual([[], null]);
    await keep(createTar(file("a", "one")));
    expect(await readContent()).toHaveLength(1);
  });

  it("[S6] an invalid name or task id opens nothing", async () => {
    await keep(createTar(file("a")));
    for (const name of ["../x", "a1-workspace.json", "a1-workspace.tar.gz/../../x", ""])
      expect(await artifacts.open(TASK, name)).toBe(null);
    expect(await artifacts.open("../task_0001", "a1-workspace.tar.gz")).toBe(null);
    await settle();
    await artifacts.remove(TASK);
    await artifacts.remove(TASK);
    expect(await artifacts.list(TASK)).toEqual([]);
  });
});
