import { Readable } from "node:stream";
import { pack as createPack } from "tar-stream";
import { describe, expect, it } from "vitest";
import { createArchive, readFirstFile } from "../../../src/sandbox/docker/image/archive.ts";

const file = (content: string) => ({ type: "file" as const, name: "passwd", content: Buffer.from(content) });

describe("archives for the engine", () => {
  it("equal entries give equal bytes", async () => {
    const entries = [
      { type: "directory" as const, name: "workspace/", mode: 0o755, owner: 10_001 },
      file("root:x:0:0\n"),
    ];
    const first = await createArchive(entries);
    expect(first.equals(await createArchive(entries))).toBe(true);
    expect(first.equals(await createArchive([file("root:x:0:1\n")]))).toBe(false);
    expect(first.toString("latin1", 136, 147), "modification time").toBe("00000000000");
  });

  it.each([1, 511, 4_096])("the first file is read from chunks of %i bytes", async (size) => {
    const archive = await createArchive([file("root\n"), file("second\n")]);
    const chunks = Array.from({ length: Math.ceil(archive.length / size) }, (_, i) =>
      archive.subarray(i * size, (i + 1) * size),
    );
    expect(String(await readFirstFile(Readable.from(chunks), 100))).toBe("root\n");
  });

  it("a file above the limit, a link and an empty archive are null", async () => {
    const pack = createPack();
    pack.entry({ name: "passwd", type: "symlink", linkname: "/etc/shadow" });
    pack.finalize();
    expect(await readFirstFile(Readable.from(await createArchive([file("12345")])), 4)).toBe(null);
    expect(await readFirstFile(pack as AsyncIterable<Uint8Array>, 100)).toBe(null);
    expect(await readFirstFile(Readable.from(await createArchive([])), 100)).toBe(null);
  });

  it("a failure of the source rejects, and an early end destroys the source", async () => {
    const broken = new Readable({ read: () => undefined });
    const reading = readFirstFile(broken, 100);
    broken.destroy(new Error("connection lost"));
    await expect(reading).rejects.toThrow("connection lost");
    const endless = Readable.from(
      (async function* () {
        yield await createArchive([file("12345")]);
        for (;;) yield Buffer.alloc(512, "x");
      })(),
    );
    expect(await readFirstFile(endless, 4)).toBe(null);
    await expect.poll(() => endless.destroyed).toBe(true);
  });
});
