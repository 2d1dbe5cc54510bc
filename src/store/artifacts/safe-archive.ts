/**
 * Converts a hostile tar stream into a bounded one that is safe to unpack next to a checkout.
 * Headers are parsed and contents are passed through: nothing is unpacked or executed.
 *
 * A1 Only regular files, folders, and links that stay inside the workspace for any content of it:
 *    no devices, pipes, outside paths or set-id bits.
 * A2 No `.git` at any depth: its configuration can run commands when someone uses git there.
 * A3 Regenerable files (installed packages, caches) are left out. Files that do not fit are left
 *    out and counted.
 */
import { posix } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { extract as openExtract, pack as openPack, type Header, type Pack } from "tar-stream";
import { WORKSPACE } from "../../core/values/artifact.ts";

const REGENERABLE: ReadonlySet<string> = new Set(["node_modules", ".venv", "__pycache__", ".cache"]);
/** Size of an entry without its content, bytes. */
const ENTRY_BYTES = 1_024;
const MIB = 2 ** 20;

export interface ArchiveLimits {
  /** Maximum bytes of contents and headers, before compression. */
  readonly maxBytes: number;
  /** The stream is cut off after this many ms. */
  readonly maxMs: number;
}

export interface SanitizedArchive {
  files: number;
  /** Which files are missing, except regenerable ones; null = none. */
  note: string | null;
}

type EntryClass = "keep" | "skip" | "unsafe" | "too_large";

/**
 * @returns the bytes of the new tar, and an account that is complete once the bytes are read to the
 * end.
 */
export function sanitizeArchive(
  tar: AsyncIterable<Uint8Array>,
  limits: ArchiveLimits,
  signal: AbortSignal,
): { readonly content: Readable; readonly account: SanitizedArchive } {
  const account: SanitizedArchive = { files: 0, note: null };
  const pack = openPack();
  const content = Readable.from(pack as unknown as AsyncIterable<Uint8Array>);
  fill(pack, tar, limits, signal, account).then(
    () => undefined,
    (error: unknown) => content.destroy(error instanceof Error ? error : new Error(String(error))),
  );
  return { content, account };
}

async function fill(
  pack: Pack,
  tar: AsyncIterable<Uint8Array>,
  limits: ArchiveLimits,
  signal: AbortSignal,
  account: SanitizedArchive,
): Promise<void> {
  const late = AbortSignal.timeout(limits.maxMs);
  const stop = AbortSignal.any([signal, late]);
  const omitted: Record<"unsafe" | "too_large", number> = { unsafe: 0, too_large: 0 };
  let remaining = limits.maxBytes;
  const entries = openExtract();
  // A failure of the pipeline also ends the loop below, which reports it.
  pipeline(Readable.from(tar), entries, { signal: stop }).catch(() => undefined);
  try {
    for await (const entry of entries) {
      const { header } = entry;
      const cost = header.size + ENTRY_BYTES;
      const entryClass = classifyEntry(header, cost <= remaining);
      if (entryClass === "unsafe" || entryClass === "too_large") omitted[entryClass] += 1;
      if (entryClass !== "keep") {
        entry.resume();
        continue;
      }
      remaining -= cost;
      if (header.type === "file") account.files += 1;
      await pipeline(entry, pack.entry(safeHeader(header)), { signal: stop });
    }
    account.note = describeOmitted(omitted, limits);
    pack.finalize();
  } catch (error) {
    if (!late.aborted || signal.aborted) throw signal.aborted ? signal.reason : error;
    account.note = `Cut off after ${Math.round(limits.maxMs / 1_000)} s: files are missing, and tar reports an unexpected end of the archive.`;
    (pack as unknown as Readable).push(null);
  }
}

function describeOmitted(omitted: Record<"unsafe" | "too_large", number>, { maxBytes }: ArchiveLimits): string | null {
  const parts = [
    omitted.too_large === 0 ? "" : `${omitted.too_large} files did not fit into ${Math.round(maxBytes / MIB)} MB`,
    omitted.unsafe === 0 ? "" : `${omitted.unsafe} entries are unsafe to unpack`,
  ].filter((part) => part !== "");
  return parts.length === 0 ? null : `Left out: ${parts.join("; ")}.`;
}

/** Copies a header without owner, device numbers and set-id bits. */
function safeHeader({ name, size, mode, mtime, type, linkname }: Header): Partial<Header> & Pick<Header, "name"> {
  const link = type === "symlink" || type === "link" ? { linkname } : {};
  return { name, size: type === "file" ? size : 0, mode: mode & 0o755, type, mtime, ...link };
}

function classifyEntry(header: Header, fits: boolean): EntryClass {
  if (!isInside(header.name)) return "unsafe";
  if (!isKept(header.name)) return "skip";
  switch (header.type) {
    case "file":
      return fits ? "keep" : "too_large";
    case "directory":
      return fits ? "keep" : "skip";
    case "symlink":
      return staysInside(header.name, header.linkname) ? "keep" : "unsafe";
    case "link":
      return isKept(header.linkname) ? "keep" : "unsafe";
    default:
      return "unsafe";
  }
}

/** A2, A3. */
function isKept(name: string): boolean {
  return isInside(name) && !name.split("/").some((part) => part === ".git" || REGENERABLE.has(part));
}

function isInside(name: string): boolean {
  const path = name.replace(/\/+$/, "");
  return (
    (path === WORKSPACE || path.startsWith(`${WORKSPACE}/`)) && posix.normalize(path) === path && !/[\0\\]/.test(path)
  );
}

/**
 * Leading `..` segments of a link go through real folders, so they can be counted. Later ones are
 * refused, because a segment before them may itself be a link.
 */
function staysInside(name: string, target: string): boolean {
  if (target === "" || target.startsWith("/") || /[\0\\]/.test(target)) return false;
  const segments = target.replace(/\/+$/, "").split("/");
  const firstName = segments.findIndex((segment) => segment !== "..");
  if (firstName !== -1 && segments.slice(firstName).some((segment) => segment === "..")) return false;
  return isInside(posix.join(posix.dirname(name), target));
}
