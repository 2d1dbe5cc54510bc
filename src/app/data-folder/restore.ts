/**
 * Unpacks a backup into a new data folder. Nothing is left behind unless every listed file arrived
 * unchanged: it is unpacked beside the folder, checked, and renamed.
 */
import { createHash, randomBytes } from "node:crypto";
import { createWriteStream, existsSync, mkdirSync, readdirSync, renameSync, rmdirSync, rmSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { extract as openExtract } from "tar-stream";
import type { z } from "zod";
import { errorMessage, SlipwayError } from "../../core/error.ts";
import {
  CONTINUED_FORMAT,
  HEADER_FILE,
  headerSchema,
  LIST_FILE,
  listSchema,
  type BackupHeader,
  type ListedFile,
} from "./backup-format.ts";

/** Of the two entries that are read into memory. */
const MAX_TEXT = 256 * 2 ** 20;

export interface RestoreReport {
  readonly header: BackupHeader;
  /** All that it names, also what an earlier backup has. */
  readonly files: readonly ListedFile[];
}

/**
 * @param earlier opens the backups that this one continues, in any order. @throws SlipwayError
 * config_invalid when `dir` is not empty, or a backup is not whole or missing.
 */
export async function restoreBackup(
  source: Readable,
  dir: string,
  earlier: readonly (() => Promise<Readable>)[] = [],
): Promise<RestoreReport> {
  if (existsSync(dir) && readdirSync(dir).length > 0)
    throw new SlipwayError(
      "config_invalid",
      `${dir} is not empty. A backup is restored into a new folder: name another one with --into.`,
    );
  mkdirSync(dirname(dir), { recursive: true, mode: 0o700 });
  const partial = `${dir}.partial-${randomBytes(4).toString("hex")}`;
  mkdirSync(partial, { mode: 0o700 });
  try {
    const report = await readBackup(source, (entry, name) => writeFile(entry, join(partial, name)));
    await addEarlier(report, partial, earlier);
    addEmptyFolders(partial, report.files);
    if (existsSync(dir)) rmdirSync(dir);
    renameSync(partial, dir);
    return report;
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    throw error;
  }
}

/** Takes from each earlier backup the files that are wanted as it has them. */
async function addEarlier(
  { header, files }: RestoreReport,
  dir: string,
  earlier: readonly (() => Promise<Readable>)[],
): Promise<void> {
  const wanted = new Map(
    files.flatMap(({ path, sha256, isEarlier }) => (isEarlier === true ? [[path, sha256] as const] : [])),
  );
  const take = async (entry: Readable, path: string): Promise<string> => {
    if (!wanted.has(path)) return await digest(entry);
    const found = await writeFile(entry, join(dir, path));
    if (wanted.get(path) === found) wanted.delete(path);
    else rmSync(join(dir, path));
    return found;
  };
  for (const open of earlier) if (wanted.size > 0) await readBackup(await open(), take);
  if (wanted.size === 0) return;
  throw new SlipwayError(
    "config_invalid",
    `The backup continues one of ${header.earlier?.createdAt ?? "before"}, and ${wanted.size} of its files are missing. Name that one with --earlier, and those that it continues itself.`,
  );
}

/** The folders of a git repository that may be empty, which a backup does not have then. */
function addEmptyFolders(dir: string, files: readonly ListedFile[]): void {
  for (const { path } of files)
    if (/^git\/\w+\/[^/]+\.git\/HEAD$/.test(path))
      for (const folder of ["objects/info", "objects/pack", "refs/heads", "refs/tags"])
        mkdirSync(join(dir, dirname(path), folder), { recursive: true, mode: 0o700 });
}

/** Reads a backup to its end. @throws SlipwayError config_invalid when it is not whole. */
export function verifyBackup(source: Readable): Promise<RestoreReport> {
  return readBackup(source, digest);
}

/** @param take consumes the content of a file. @returns its digest. */
async function readBackup(
  source: Readable,
  take: (content: Readable, path: string) => Promise<string>,
): Promise<RestoreReport> {
  const entries = openExtract();
  const read = pipeline(source, createGunzip(), entries);
  // The loop below reports its failure.
  read.catch(() => undefined);
  const found = new Map<string, string>();
  let header: BackupHeader | null = null;
  let list: z.infer<typeof listSchema> | null = null;
  try {
    for await (const item of entries) {
      const { name, type } = item.header;
      const entry = Readable.from(item);
      if (header === null) header = readHeader(name, await readText(entry));
      else if (name === LIST_FILE) list = parse(listSchema, await readText(entry));
      else if (type === "file") found.set(name, await take(entry, checkPath(name)));
      else throw new SlipwayError("config_invalid", `The backup has an entry that is no file: ${name}.`);
    }
    await read;
  } catch (error) {
    if (error instanceof SlipwayError) throw error;
    throw new SlipwayError(
      "config_invalid",
      `The backup is damaged or was cut off (${errorMessage(error)}). Take another one.`,
    );
  }
  if (header === null || list === null)
    throw new SlipwayError("config_invalid", "The backup was cut off: its list of files is missing. Take another one.");
  const own = list.filter(({ isEarlier }) => isEarlier !== true);
  const broken = own.find(({ path, sha256 }) => found.get(path) !== sha256);
  if (broken !== undefined || found.size !== own.length)
    throw new SlipwayError(
      "config_invalid",
      `The backup is damaged: ${broken?.path ?? "a file"} is not as it was written.`,
    );
  return { header, files: list };
}

function readHeader(name: string, text: string): BackupHeader {
  if (name !== HEADER_FILE) throw new SlipwayError("config_invalid", "This file is no backup of Slipway.");
  const header = parse(headerSchema, text);
  if (header.format > CONTINUED_FORMAT)
    throw new SlipwayError(
      "config_invalid",
      `Slipway ${header.version} made this backup. Restore it with that version or a newer one.`,
    );
  return header;
}

function parse<T>(schema: z.ZodType<T>, text: string): T {
  const parsed = schema.safeParse(JSON.parse(text));
  if (parsed.success) return parsed.data;
  throw new SlipwayError("config_invalid", "This file is no backup of Slipway, or it is damaged.");
}

function checkPath(name: string): string {
  const path = posix.normalize(name);
  if (path !== name || path.startsWith("/") || path.split("/").includes("..") || path.includes("\\"))
    throw new SlipwayError("config_invalid", `The backup has a file outside of the data folder: ${name}.`);
  return path;
}

/** @returns the digest of the content. */
async function writeFile(entry: Readable, path: string): Promise<string> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const hash = createHash("sha256");
  entry.on("data", (piece: Buffer) => hash.update(piece));
  await pipeline(entry, createWriteStream(path, { flags: "wx", mode: 0o600 }));
  return hash.digest("hex");
}

async function digest(entry: Readable): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of entry as AsyncIterable<Buffer>) hash.update(piece);
  return hash.digest("hex");
}

async function readText(entry: Readable): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of entry as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes > MAX_TEXT) throw new SlipwayError("config_invalid", "This file is no backup of Slipway.");
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString("utf8");
}
