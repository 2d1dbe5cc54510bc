import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Attachments } from "../../../src/core/ports/files/attachments.ts";
import { cleanName, isForModel, toFileName, type Attachment } from "../../../src/core/values/attachment.ts";
import { openAttachmentFiles } from "../../../src/store/attachments/attachment-files.ts";
import { detectKind } from "../../../src/core/lib/media-type.ts";
import { gif, jpeg, png, webp } from "./pictures.ts";

const TASK = `task_${"a".repeat(26)}`;
let dir: string;
let now: number;
let attachments: Attachments;
const limits = { fileBytes: 1_000_000, personBytes: 2_500_000 };
const open = (): Attachments => openAttachmentFiles({ dir, limits, now: () => now });
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "slipway-attachments-"));
  now = 1_000_000;
  attachments = open();
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

async function* bytes(...chunks: (string | Uint8Array | Error)[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) {
    await Promise.resolve();
    if (chunk instanceof Error) throw chunk;
    yield Buffer.from(chunk as string);
  }
}

async function upload(userId: string, name: string, content: string | Uint8Array): Promise<Attachment> {
  const { length } = Buffer.from(content as string);
  return await (await attachments.receive({ userId, name, content: bytes(content), length })).keep();
}

async function read(id: string): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const part of (await attachments.open(id))?.content ?? []) parts.push(part);
  return Buffer.concat(parts).toString();
}

describe("[U1] the bytes decide what a file is", () => {
  it("pictures have a type and a size, whatever metadata they carry", () => {
    expect(detectKind(png(64, 32))).toEqual({ mediaType: "image/png", width: 64, height: 32 });
    expect(detectKind(jpeg(4_000, 3_000, 150_000))).toEqual({ mediaType: "image/jpeg", width: 4_000, height: 3_000 });
    expect(detectKind(gif(7, 9))).toEqual({ mediaType: "image/gif", width: 7, height: 9 });
    expect(detectKind(webp(1_920, 1_080))).toEqual({ mediaType: "image/webp", width: 1_920, height: 1_080 });
  });

  it("a page, an SVG and a script are text, and what is cut off has no size", () => {
    for (const text of ["<svg onload=alert(1)>", "<!doctype html><script>", "#!/bin/sh\n", "Grüße, \x1b[1mfett\x1b[0m"])
      expect(detectKind(Buffer.from(text)).mediaType).toBe("text/plain");
    expect(detectKind(Buffer.from([0, 1, 2, 3])).mediaType).toBe("application/octet-stream");
    expect(detectKind(Buffer.from("caf\xe9", "latin1")).mediaType).toBe("application/octet-stream");
    expect(detectKind(png(64, 32).subarray(0, 12))).toEqual({ mediaType: "image/png", width: null, height: null });
    expect(detectKind(jpeg(64, 32, 400_000).subarray(0, 256 * 1024)).width).toBeNull();
  });

  it("the model gets pictures of a size that the provider takes, and nothing else", () => {
    const base = { id: `att_${"0".repeat(26)}`, name: "x", mediaType: "image/png", bytes: 10, width: 10, height: 10 };
    expect(isForModel(base)).toBe(true);
    expect(isForModel({ ...base, bytes: 4_000_000 })).toBe(false);
    expect(isForModel({ ...base, height: 8_001 })).toBe(false);
    expect(isForModel({ ...base, width: null })).toBe(false);
    expect(isForModel({ ...base, mediaType: "image/svg+xml" })).toBe(false);
  });
});

describe("names", () => {
  it("[U1] a name loses its path and what nobody sees, and keeps its end", () => {
    expect(cleanName("../../etc/passwd")).toBe("passwd");
    expect(cleanName("C:\\Users\\a\\photo.png")).toBe("photo.png");
    expect(cleanName("in\u202evoice\u0000gpj.exe")).toBe("invoicegpj.exe");
    for (const empty of ["", "..", "/", " . ", "\u200b"]) expect(cleanName(empty)).toBe("file");
    const long = cleanName(`${"ä".repeat(300)}.tar`);
    expect([[...long].length, long.endsWith("….tar")]).toEqual([100, true]);
  });

  it("a file name is safe in a shell, unique and short", () => {
    const id = "att_0123456789abcdef0123456789";
    expect(toFileName({ id, name: "my photo; rm -rf $HOME.png" })).toBe("01234567-my_photo_rm_-rf_HOME.png");
    const long = toFileName({ id, name: `${"漢".repeat(95)}.png` });
    expect(Buffer.byteLength(long)).toBeLessThan(200);
    expect(long.endsWith(".png")).toBe(true);
  });
});

describe("[U3] uploads", () => {
  it("the same file of the same person is one attachment, and another person's is another", async () => {
    const first = await upload("ada", "photo.png", png(8, 8));
    expect(await upload("ada", "photo.png", png(8, 8))).toEqual(first);
    expect((await upload("ada", "other.png", png(8, 8))).id).not.toBe(first.id);
    expect((await upload("bob", "photo.png", png(8, 8))).id).not.toBe(first.id);
    expect(await attachments.usage()).toHaveLength(3);
    expect(await attachments.find(first.id)).toEqual({ ...first, userId: "ada" });
  });

  it("what breaks off, is too large or is dropped leaves nothing and takes no room", async () => {
    const receive = (content: AsyncIterable<Uint8Array>, length: number | null) =>
      attachments.receive({ userId: "ada", name: "x", content, length });
    await expect(receive(bytes("abc", new Error("gone")), 1_000)).rejects.toThrow("gone");
    await expect(receive(bytes("x"), 1_000_001)).rejects.toMatchObject({ code: "payload_too_large" });
    await expect(receive(bytes(Buffer.alloc(600_000), Buffer.alloc(600_000)), null)).rejects.toMatchObject({
      code: "payload_too_large",
    });
    await (await receive(bytes("abc"), 3)).discard();
    expect(readdirSync(dir)).toEqual([]);
    for (const name of ["a", "b"]) await upload("ada", name, Buffer.alloc(1_000_000, name));
    expect(await attachments.usage()).toHaveLength(2);
  });

  it("a person has so much room, also for what is arriving, and gets it back", async () => {
    for (const name of ["a", "b"]) await upload("ada", name, Buffer.alloc(1_000_000, name));
    await expect(upload("ada", "c", Buffer.alloc(600_000))).rejects.toMatchObject({ code: "attachments_full" });
    await upload("bob", "c", Buffer.alloc(600_000));
    const first = await attachments.receive({ userId: "ada", name: "d", content: bytes("d"), length: 400_000 });
    await expect(upload("ada", "e", Buffer.alloc(200_000))).rejects.toMatchObject({ code: "attachments_full" });
    await first.discard();
    await upload("ada", "e", Buffer.alloc(200_000));
    attachments = open();
    await expect(upload("ada", "c", Buffer.alloc(600_000))).rejects.toMatchObject({ code: "attachments_full" });
    for (const { id: old } of await attachments.usage()) await attachments.release(old, [], now + 1);
    await upload("ada", "c", Buffer.alloc(600_000));
  });

  it("many small files take room too", async () => {
    for (let n = 0; n < 76; n += 1) await upload("ada", `${n}`, "x");
    await expect(upload("ada", "76", "x")).rejects.toMatchObject({ code: "attachments_full" });
  });

  it("a person sends four at once", async () => {
    let go = (): void => undefined;
    const wait = new Promise<void>((resolve) => (go = resolve));
    async function* slow(): AsyncGenerator<Uint8Array> {
      await wait;
      yield Buffer.from("x");
    }
    const slots = [1, 2, 3, 4].map((n) =>
      attachments.receive({ userId: "ada", name: `${n}`, content: slow(), length: 1 }),
    );
    await expect(upload("ada", "5", "x")).rejects.toMatchObject({ code: "rate_limited" });
    go();
    for (const slot of slots) await (await slot).keep();
    await upload("ada", "5", "x");
  });

  it("a start removes what a killed process was receiving, and keeps the rest", async () => {
    const { id } = await upload("ada", "kept.txt", "kept");
    mkdirSync(join(dir, "tmp_0123"));
    writeFileSync(join(dir, "tmp_0123", "content"), "half of a file");
    attachments = open();
    expect(readdirSync(dir)).toEqual([id]);
    expect(await read(id)).toBe("kept");
  });
});

describe("[U4] attachments of tasks", () => {
  it("what a task has is not removed; what no task has is, once it is old", async () => {
    const { id } = await upload("ada", "a.txt", "a");
    expect(await attachments.give(id, TASK)).toBe(true);
    expect([await attachments.isGiven(id, TASK), await attachments.tasksOf(id)]).toEqual([true, [TASK]]);
    expect(await attachments.release(id, [], now + 1)).toBe(false);
    expect(await attachments.release(id, [TASK], now)).toBe(false);
    expect(await attachments.isGiven(id, TASK)).toBe(false);
    now += 1_000;
    await upload("ada", "a.txt", "a");
    expect(await attachments.release(id, [], now)).toBe(false);
    expect(await attachments.release(id, [], now + 1)).toBe(true);
    expect([await attachments.find(id), await attachments.open(id), readdirSync(dir)]).toEqual([null, null, []]);
    expect(await attachments.give(id, TASK)).toBe(false);
  });

  it("[S6] ids and names that are paths reach nothing", async () => {
    for (const id of ["..", "../x", `att_${"z".repeat(26)}`, ""]) {
      expect([await attachments.find(id), await attachments.open(id)]).toEqual([null, null]);
      expect([await attachments.isGiven(id, TASK), await attachments.tasksOf(id)]).toEqual([false, []]);
    }
    const { id } = await upload("ada", "a.txt", "a");
    await expect(attachments.give(id, "../x")).rejects.toThrow("not an id");
  });
});
