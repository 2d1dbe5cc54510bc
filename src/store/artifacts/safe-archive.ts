/**
 * A tar stream from a hostile folder -> a tar stream that is bounded and that a person may unpack
 * beside a checkout. Header are parsed, contents pass through; nothing is written to a file of that
 * name and nothing is executed.
 *
 * A1 Only regular files, folders, and links that stay inside the workspace whatever else is in it:
 *    no devices, pipes, foreign paths, set-id bits.
 * A2 No `.git` at any depth: its configuration runs commands of whoever wrote it in the shell of
 *    whoever looks at it.
 * A3 What can be made again (installed packages, caches) is left out; what does not fit is left out
 *    and counted.
 */
import { posix } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { extract as openExtract, pack as openPack, type Header, type Pack } from "tar-stream";
import { WORKSPACE } from "../../core/values/artifact.ts";

const MADE_AGAIN: ReadonlySet<string> = new Set(["node_modules", ".venv", "__pycache__", ".cache"]);
/** What an entry costs beside its content. */
const ENTRY_BYTES = 1_024;
const MIB = 2 ** 20;

export interface ArchiveLimits {
  /** Contents and headers before compression. */
  readonly maxBytes: number;
  /** The stream is cut after this. */
  readonly maxMs: number;
}

export interface SanitizedArchive {
  files: number;
  /** What is missing and cannot be made again. */
  note: string | null;
}

type Verdict = "keep" | "skip" | "unsafe" | "too_large";

/**
 * @returns the bytes of the new tar, and an account that is complete when they have been read to
 * their end.
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
  const left: Record<"unsafe" | "too_large", number> = { unsafe: 0, too_large: 0 };
  let room = limits.maxBytes;
  const entries = openExtract();
  // Its failure ends the loop below as well, which is where it is heard.
  pipeline(Readable.from(tar), entries, { signal: stop }).catch(() => undefined);
  try {
    for await (const entry of entries) {
      const { header } = entry;
      const cost = header.size + ENTRY_BYTES;
      const verdict = judge(header, cost <= room);
      if (verdict === "unsafe" || verdict === "too_large") left[verdict] += 1;
      if (verdict !== "keep") {
        entry.resume();
        continue;
      }
      room -= cost;
      if (header.type === "file") account.files += 1;
      await pipeline(entry, pack.entry(plain(header)), { signal: stop });
    }
    account.note = words(left, limits);
    pack.finalize();
  } catch (error) {
    if (!late.aborted || signal.aborted) throw signal.aborted ? signal.reason : error;
    account.note = `Cut off after ${Math.round(limits.maxMs / 1_000)} s: files are missing, and tar says that the archive ends early.`;
    (pack as unknown as Readable).push(null);
  }
}

function words(left: Record<"unsafe" | "too_large", number>, { maxBytes }: ArchiveLimits): string | null {
  const parts = [
    left.too_large === 0 ? "" : `${left.too_large} files did not fit into ${Math.round(maxBytes / MIB)} MB`,
    left.unsafe === 0 ? "" : `${left.unsafe} entries could harm whoever unpacks them`,
  ].filter((part) => part !== "");
  return parts.length === 0 ? null : `Left out: ${parts.join("; ")}.`;
}

/** What of a header is passed on: nothing that could make a program, an owner or a device of it. */
function plain({ name, size, mode, mtime, type, linkname }: Header): Partial<Header> & Pick<Header, "name"> {
  const link = type === "symlink" || type === "link" ? { linkname } : {};
  return { name, size: type === "file" ? size : 0, mode: mode & 0o755, type, mtime, ...link };
}

function judge(header: Header, fits: boolean): Verdict {
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
  return isInside(name) && !name.split("/").some((part) => part === ".git" || MADE_AGAIN.has(part));
}

function isInside(name: string): boolean {
  const path = name.replace(/\/+$/, "");
  return (
    (path === WORKSPACE || path.startsWith(`${WORKSPACE}/`)) && posix.normalize(path) === path && !/[\0\\]/.test(path)
  );
}

/**
 * Steps up come first and are steps through real folders, so they can be counted; behind them no
 * more may come, because what looks like a folder there may be a link itself.
 */
function staysInside(name: string, target: string): boolean {
  if (target === "" || target.startsWith("/") || /[\0\\]/.test(target)) return false;
  const steps = target.replace(/\/+$/, "").split("/");
  const ups = steps.findIndex((step) => step !== "..");
  if (ups !== -1 && steps.slice(ups).some((step) => step === "..")) return false;
  return isInside(posix.join(posix.dirname(name), target));
}
