/**
 * A folder as a tar stream. Links are written down and not followed; what is no file, folder or
 * link is left out.
 */
import { constants } from "node:fs";
import { lstat, open, opendir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { pack as openPack, type Pack } from "tar-stream";

/**
 * Names begin with `prefix`. The folder may change meanwhile: what vanishes is left out, and no
 * more is read of a file than it had. An unreadable folder or file is left out too.
 */
export function createWorkspaceTar(path: string, prefix: string, signal: AbortSignal): Readable {
  const pack = openPack();
  const stream = Readable.from(pack as unknown as AsyncIterable<Uint8Array>);
  // Whoever does not read it to its end must not hear of it as an uncaught error.
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
  // A pipe that took the file's place meanwhile must not make us wait for its writer.
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(() => null);
  if (file === null) return;
  try {
    const { size, mode, mtime } = await file.stat();
    const sink = pack.entry({ name, size, mode, mtime });
    await pipeline(Readable.from(exactly(file, size)), sink, { signal });
  } finally {
    await file.close();
  }
}

const PIECE = 64 * 1_024;

/** As many bytes as the header promises: zeros for what was cut off meanwhile. */
async function* exactly(file: Awaited<ReturnType<typeof open>>, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < size;) {
    const want = Math.min(PIECE, size - at);
    const { bytesRead, buffer } = await file.read(Buffer.alloc(want), 0, want, at);
    const piece = bytesRead === 0 ? buffer : buffer.subarray(0, bytesRead);
    at += piece.length;
    yield piece;
  }
}
