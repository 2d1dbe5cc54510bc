/**
 * A workspace as a tar stream. Symbolic links are archived and not followed; everything except
 * files, folders and links is skipped.
 */
import { constants } from "node:fs";
import { lstat, open, opendir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { pack as openPack, type Pack } from "tar-stream";

/**
 * @param prefix first component of all names.
 * The folder may change while it is read: a vanished or unreadable entry is skipped, and of a file
 * exactly its size at the start is archived.
 */
export function createWorkspaceTar(path: string, prefix: string, signal: AbortSignal): Readable {
  const pack = openPack();
  const stream = Readable.from(pack as unknown as AsyncIterable<Uint8Array>);
  // A reader that stops early has no error handler; the error must not become an uncaught one.
  stream.on("error", () => undefined);
  add(pack, path, prefix, signal).then(
    () => pack.finalize(),
    (error: unknown) => stream.destroy(error instanceof Error ? error : new Error(String(error))),
  );
  return stream;
}

async function add(pack: Pack, path: string, name: string, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const found = await lstat(path).catch(() => null);
  if (found === null) return;
  const { mtime, mode } = found;
  if (found.isSymbolicLink()) {
    const linkname = await readlink(path).catch(() => null);
    if (linkname !== null) pack.entry({ name, type: "symlink", linkname, mtime });
    return;
  }
  if (found.isFile()) return addFile(pack, path, name, signal);
  if (!found.isDirectory()) return;
  pack.entry({ name: `${name}/`, type: "directory", mode, mtime });
  const folder = await opendir(path).catch(() => null);
  if (folder === null) return;
  for await (const child of folder) await add(pack, join(path, child.name), `${name}/${child.name}`, signal);
}

async function addFile(pack: Pack, path: string, name: string, signal: AbortSignal): Promise<void> {
  // O_NONBLOCK: opening a pipe that replaced the file must not wait for its writer.
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(() => null);
  if (file === null) return;
  try {
    const { size, mode, mtime } = await file.stat();
    const sink = pack.entry({ name, size, mode, mtime });
    await pipeline(Readable.from(readExactly(file, size)), sink, { signal });
  } finally {
    await file.close();
  }
}

const PIECE_BYTES = 64 * 1_024;

/** Exactly the size in the header: a file that was truncated is padded with zeros. */
async function* readExactly(file: Awaited<ReturnType<typeof open>>, size: number): AsyncGenerator<Buffer> {
  for (let offset = 0; offset < size;) {
    const length = Math.min(PIECE_BYTES, size - offset);
    const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, offset);
    const piece = bytesRead === 0 ? buffer : buffer.subarray(0, bytesRead);
    offset += piece.length;
    yield piece;
  }
}
