/**
 * Writes a backup of a data folder while a server may use it.
 *
 * B1 The database is copied first and at one moment. Everything that it names was durable before
 *    and does not change, so what is copied after it is at least as new.
 * B2 In a repository, refs are copied before objects: each copied ref has its objects. A pack that
 *    replaces others meanwhile is found by listing again.
 */
import { createHash, randomBytes } from "node:crypto";
import { createReadStream, lstatSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { basename, join, relative } from "node:path";
import { pipeline } from "node:stream/promises";
import type { Writable } from "node:stream";
import { createGzip } from "node:zlib";
import { pack as openPack, type Pack } from "tar-stream";
import Database from "../../store/sqlite/driver.ts";
import { makePrivateFile } from "../../store/sqlite/lock.ts";
import {
  CONTINUED_FORMAT,
  DATABASE_FILE,
  HEADER_FILE,
  LIST_FILE,
  WHOLE_FORMAT,
  type BackupHeader,
  type EarlierBackup,
  type ListedFile,
} from "./backup-format.ts";
import { SlipwayError } from "../../core/error.ts";
import { version } from "../system.ts";

/** Of this machine or this moment, or copied another way. */
const LEFT_OUT = new Set([
  `${DATABASE_FILE}-wal`,
  `${DATABASE_FILE}-shm`,
  DATABASE_FILE,
  "slipway.lock",
  "server.json",
  "operator.token",
  "secret.key",
  "secret.key.next",
  "backups",
  "disks",
  "run",
  "sandboxes",
]);
/** More pages than a database has: the copy is one step, and writers do not make it start again. */
const ALL_PAGES = 0x7fff_ffff;
/** A backup takes less, ms. */
const COPY_MS = 24 * 3_600_000;

export interface BackupReport {
  /** Without those that an earlier backup has. */
  readonly files: number;
  /** Of these files, before compression. */
  readonly bytes: number;
}

export interface BackupOptions {
  /** Also secret.key, which opens what is sealed in the database. */
  readonly hasKey: boolean;
  /** The backup that this one continues: files that have not changed are not in it. */
  readonly earlier?: EarlierBackup | undefined;
}

export async function writeBackup(dir: string, out: Writable, options: BackupOptions): Promise<BackupReport> {
  if (lstatSync(join(dir, DATABASE_FILE), { throwIfNoEntry: false }) === undefined)
    throw new SlipwayError(
      "config_invalid",
      `There is no Slipway database in ${dir}. Name its data folder with --data-dir.`,
    );
  const copy = await copyDatabase(dir);
  try {
    const pack = openPack();
    const written = pipeline(pack, createGzip({ level: 6 }), out);
    const [all] = await Promise.all([fill(pack, { dir, copy, ...options }), written]);
    const files = all.filter(({ isEarlier }) => isEarlier !== true);
    return { files: files.length, bytes: files.reduce((sum, { size }) => sum + size, 0) };
  } finally {
    for (const suffix of ["", "-wal", "-shm"]) rmSync(`${copy}${suffix}`, { force: true });
  }
}

async function copyDatabase(dir: string): Promise<string> {
  const folder = join(dir, "backups");
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  removeOldCopies(folder);
  const path = join(folder, `.copy-${randomBytes(6).toString("hex")}.db`);
  makePrivateFile(path);
  const db = new Database(join(dir, DATABASE_FILE), { readonly: true });
  try {
    await db.backup(path, { progress: () => ALL_PAGES });
  } finally {
    db.close();
  }
  return path;
}

/** Those of backups that were killed. */
function removeOldCopies(folder: string): void {
  for (const name of readdirSync(folder).filter((one) => one.startsWith(".copy-"))) {
    const stat = lstatSync(join(folder, name), { throwIfNoEntry: false });
    if (stat !== undefined && Date.now() - stat.mtimeMs > COPY_MS) rmSync(join(folder, name), { force: true });
  }
}

interface Source extends BackupOptions {
  readonly dir: string;
  /** The copy of the database. */
  readonly copy: string;
}

async function fill(pack: Pack, { dir, copy, hasKey, earlier }: Source): Promise<ListedFile[]> {
  const files: ListedFile[] = [];
  const known = new Map(earlier?.files.map((file) => [file.path, file]));
  const seen = new Set<string>();
  const add = async (file: string, path = toArchivePath(dir, file)): Promise<void> => {
    if (seen.has(path)) return;
    seen.add(path);
    const listed = await addFile(pack, file, path, known.get(path));
    if (listed !== null) files.push(listed);
  };
  try {
    const createdAt = new Date().toISOString();
    const format = earlier === undefined ? WHOLE_FORMAT : CONTINUED_FORMAT;
    const continued = earlier === undefined ? {} : { earlier: { createdAt: earlier.createdAt } };
    const header: BackupHeader = { format, version: version(), createdAt, hasKey, ...continued };
    await addText(pack, HEADER_FILE, JSON.stringify(header));
    await add(copy, DATABASE_FILE);
    if (hasKey) await add(join(dir, "secret.key"));
    for (const name of readdirSync(dir))
      if (!LEFT_OUT.has(name)) for (const file of walk(join(dir, name))) await add(file);
    await addText(pack, LIST_FILE, JSON.stringify(files));
    pack.finalize();
    return files;
  } catch (error) {
    pack.destroy(error instanceof Error ? error : new Error(String(error)));
    throw error;
  }
}

const toArchivePath = (dir: string, file: string): string => relative(dir, file).split("\\").join("/");

/** Files that git is writing. */
const UNFINISHED = /\.lock$|^tmp_/;

/** Nothing when the folder was removed meanwhile, as those of old tasks are. */
function listFolder(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
    throw error;
  }
}

/**
 * Yields regular files. A folder `objects` comes last, and again while its number of files grows,
 * so that objects which appear during the backup are included.
 */
function* walk(path: string): Generator<string> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat?.isFile() === true && !UNFINISHED.test(basename(path))) yield path;
  if (stat?.isDirectory() !== true) return;
  const names = listFolder(path);
  for (const name of names) if (name !== "objects") yield* walk(join(path, name));
  if (!names.includes("objects")) return;
  const objects = join(path, "objects");
  for (let before = -1, count = 0; count > before;) {
    before = count;
    count = 0;
    for (const file of walk(objects)) {
      count += 1;
      yield file;
    }
  }
}

/** @param known the same path in the earlier backup. @returns null when the file is gone. */
async function addFile(
  pack: Pack,
  file: string,
  path: string,
  known: ListedFile | undefined,
): Promise<ListedFile | null> {
  const handle = await open(file, "r").catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  });
  if (handle === null) return null;
  try {
    const { size } = await handle.stat();
    const read = () => createReadStream(basename(file), { fd: handle, start: 0, end: size - 1, autoClose: false });
    if (known?.size === size) {
      const before = createHash("sha256");
      if (size > 0) for await (const piece of read()) before.update(piece as Buffer);
      if (before.digest("hex") === known.sha256) return { path, size, sha256: known.sha256, isEarlier: true };
    }
    const hash = createHash("sha256");
    const entry = pack.entry({ name: path, size, mode: 0o600 });
    if (size > 0) {
      const content = read();
      content.on("data", (piece) => hash.update(piece));
      await pipeline(content, entry);
    } else {
      entry.end(undefined);
    }
    return { path, size, sha256: hash.digest("hex") };
  } finally {
    await handle.close();
  }
}

function addText(pack: Pack, name: string, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    pack.entry({ name, mode: 0o600 }, text, (error) => (error ? reject(error) : resolve()));
  });
}
