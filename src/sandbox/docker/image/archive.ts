/** Tar archives of a few small files in memory, exchanged with the engine. */
import { Readable, type Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { extract, pack as createPack } from "tar-stream";

export type ArchiveEntry =
  | { readonly type: "file"; readonly name: string; readonly content: Buffer }
  | {
      readonly type: "directory";
      readonly name: string;
      readonly mode: number;
      /** User and group id. */
      readonly owner: number;
    };

const MTIME = new Date(0);

/** Deterministic: equal entries give equal bytes. */
export async function createArchive(entries: readonly ArchiveEntry[]): Promise<Buffer> {
  const pack = createPack();
  for (const entry of entries) {
    if (entry.type === "file") pack.entry({ name: entry.name, mode: 0o644, mtime: MTIME }, entry.content);
    else {
      const { type, name, mode, owner } = entry;
      pack.entry({ type, name, mode, uid: owner, gid: owner, mtime: MTIME });
    }
  }
  pack.finalize();
  return await readAll(pack);
}

/**
 * The content of the first entry; null unless it is a regular file of at most `maxBytes`. Destroys
 * the source afterwards.
 */
export async function readFirstFile(archive: AsyncIterable<Uint8Array>, maxBytes: number): Promise<Buffer | null> {
  const parser = extract();
  // A failure of the source destroys the parser, and is thrown by the loop below.
  pipeline(Readable.from(archive), parser as unknown as Writable).catch(() => undefined);
  try {
    for await (const entry of parser) {
      const { type, size } = entry.header;
      return type === "file" && size <= maxBytes ? await readAll(entry) : null;
    }
    return null;
  } finally {
    parser.destroy();
  }
}

/** The types of tar-stream declare what its streams yield as unknown. */
async function readAll(stream: AsyncIterable<unknown>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of stream) if (piece instanceof Uint8Array) pieces.push(piece);
  return Buffer.concat(pieces);
}
