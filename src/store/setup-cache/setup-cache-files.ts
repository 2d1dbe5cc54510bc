/**
 * Setup caches as files: `<dir>/<person>/<digest>.tar`, and disk images made of them beside:
 * `<digest>.<repository>.<size>.img`, of no use without the archive. A draft gets its name by a
 * rename when it is complete and on the disk, so a crash leaves no archive that is half there. The
 * time of the last change is that of the save, the time of the last access that of the last use.
 */
import { randomBytes } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, open, readdir, rename, rm, stat, statfs, utimes } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { raceAbort } from "../../core/lib/concurrency/async.ts";
import { errorMessage, isAbort } from "../../core/error.ts";
import { noCrash, type Crashpoint } from "../../core/lib/runtime/crashpoint.ts";
import { removeGarbage, type Garbage } from "../../core/lib/garbage.ts";
import type {
  SaveOptions,
  SetupCaches,
  SetupDiskKey,
  SetupKey,
  SetupSaved,
} from "../../core/ports/files/setup-caches.ts";

export interface SetupCacheFilesOptions {
  readonly dir: string;
  /** Bytes of all archives together; one takes at most a quarter. */
  readonly maxBytes: number;
  readonly maxAgeMs: number;
  /** Nothing is saved while the disk has less free, bytes. */
  readonly floorBytes: number;
  /** Epoch ms. */
  readonly now: () => number;
  readonly crashpoint?: Crashpoint;
}

interface Entry {
  /** Relative to the folder. */
  readonly name: string;
  readonly bytes: number;
  readonly savedAt: number;
  readonly usedAt: number;
}

const PERSON = /^\w{1,100}$/;
const DIGEST = /^[0-9a-f]{64}$/;
const REPO = /^[0-9a-f]{16}$/;
const KEPT = /^[0-9a-f]{64}\.(?:tar|[0-9a-f]{16}\.\d+\.img)$/;
const DRAFT = /^\.new-[0-9a-f]+$/;
/** Most that a disk image takes, of its archive and what the file system needs. */
const DISK_FACTOR = 2;
const PIECE_BYTES = 256 * 1_024;
/** The free space of the disk is read again after this many bytes. */
const LOOK_BYTES = 64 * 2 ** 20;

/** Its message is the reason that people read. */
class Unfit extends Error {}

export function openSetupCacheFiles(options: SetupCacheFilesOptions): SetupCaches {
  return new SetupCacheFiles(options);
}

class SetupCacheFiles implements SetupCaches {
  readonly #options: SetupCacheFilesOptions;
  /** Names that are being saved. */
  readonly #saving = new Set<string>();
  /** Of this process, which is the only one that saves; others are what a crash left. */
  readonly #drafts = new Set<string>();

  constructor(options: SetupCacheFilesOptions) {
    this.#options = options;
  }

  async open(key: SetupKey) {
    const path = join(this.#options.dir, toName(key));
    const found = await stat(path).catch(() => null);
    if (found === null || this.#isOld(found.mtimeMs)) return null;
    // The archive may be removed meanwhile; then there is none.
    const touched = await utimes(path, this.#options.now() / 1_000, found.mtime).then(
      () => true,
      () => false,
    );
    if (!touched) return null;
    return { bytes: found.size, savedAt: Math.round(found.mtimeMs), content: readLazily(path) };
  }

  async save(
    key: SetupKey,
    content: AsyncIterable<Uint8Array>,
    options: SaveOptions,
    signal: AbortSignal,
  ): Promise<SetupSaved> {
    const name = toName(key);
    if (this.#saving.has(name)) return { saved: false, reason: "another task saves the same" };
    this.#saving.add(name);
    try {
      await this.#write(name, content, options, signal);
      return { saved: true, reason: null };
    } catch (error) {
      if (signal.aborted || isAbort(error)) throw error;
      if (error instanceof Unfit) return { saved: false, reason: error.message };
      if (isOfDisk(error)) return { saved: false, reason: errorMessage(error).slice(0, 200) };
      throw error;
    } finally {
      this.#saving.delete(name);
    }
  }

  async disk(key: SetupDiskKey): Promise<string | null> {
    const name = toDiskName(key);
    const path = join(this.#options.dir, name);
    const found = await stat(path).catch(() => null);
    if (found === null || this.#saving.has(name) || (await this.open(key)) === null) return null;
    const touched = await utimes(path, this.#options.now() / 1_000, found.mtime).then(
      () => true,
      () => false,
    );
    return touched ? path : null;
  }

  async hasDisks({ userId, repo }: Pick<SetupDiskKey, "userId" | "repo">): Promise<boolean> {
    if (!PERSON.test(userId)) return false;
    const files = await readdir(join(this.#options.dir, userId)).catch(() => []);
    return files.some((file) => KEPT.test(file) && file.includes(`.${repo}.`));
  }

  async saveDisk(
    key: SetupDiskKey,
    make: (files: { readonly archive: string; readonly disk: string }) => Promise<void>,
  ): Promise<void> {
    const name = toDiskName(key);
    if (this.#saving.has(name)) return;
    this.#saving.add(name);
    try {
      await this.#writeDisk(key, make);
    } finally {
      this.#saving.delete(name);
    }
  }

  async collect(mode: "dry-run" | "remove"): Promise<Garbage[]> {
    const { dir, maxBytes } = this.#options;
    const entries = await this.#list();
    const names = new Set(entries.map(({ name }) => name));
    const old = entries.filter(({ name, savedAt }) => this.#isOld(savedAt) || !names.has(toArchiveName(name)));
    const surplus = findSurplus(
      entries.filter((entry) => !old.includes(entry)),
      maxBytes,
    );
    const drafts = (await this.#listFiles(DRAFT)).filter(({ name }) => !this.#drafts.has(name));
    const found: Garbage[] = [];
    for (const { name, bytes } of [...old, ...surplus, ...drafts])
      found.push(
        await removeGarbage(mode, { kind: "setup-cache", name, bytes }, () => rm(join(dir, name), { force: true })),
      );
    return found;
  }

  async removePerson(userId: string): Promise<void> {
    if (PERSON.test(userId)) await rm(join(this.#options.dir, userId), { recursive: true, force: true });
  }

  async #writeDisk(key: SetupDiskKey, make: Parameters<SetupCaches["saveDisk"]>[1]): Promise<void> {
    const { dir, now, floorBytes, maxBytes, crashpoint = noCrash } = this.#options;
    const [archive, path] = [join(dir, toName(key)), join(dir, toDiskName(key))];
    const source = await stat(archive).catch(() => null);
    if (source === null || (await stat(path).catch(() => null)) !== null) return;
    const { bavail, bsize } = await statfs(dir);
    if (bavail * bsize < floorBytes + DISK_FACTOR * source.size) return;
    const draftName = this.#nameDraft(key.userId);
    const draft = join(dir, draftName);
    try {
      await make({ archive, disk: draft });
      const file = await open(draft, "r+");
      try {
        await file.sync();
      } finally {
        await file.close();
      }
      await utimes(draft, now() / 1_000, source.mtime);
      crashpoint("setup_disk.written");
      await rename(draft, path);
    } finally {
      await rm(draft, { force: true });
      this.#drafts.delete(draftName);
    }
    for (const entry of findSurplus(await this.#list(), maxBytes)) await rm(join(dir, entry.name), { force: true });
  }

  async #write(
    name: string,
    content: AsyncIterable<Uint8Array>,
    options: SaveOptions,
    signal: AbortSignal,
  ): Promise<void> {
    const { dir, now, maxBytes, crashpoint = noCrash } = this.#options;
    const path = join(dir, name);
    const exists = await stat(path).catch(() => null);
    if (exists !== null && !this.#isOld(exists.mtimeMs)) throw new Unfit("it is there already");
    const person = name.split("/")[0] ?? "";
    await mkdir(join(dir, person), { recursive: true, mode: 0o700 });
    const draftName = this.#nameDraft(person);
    const draft = join(dir, draftName);
    try {
      const file = createWriteStream(draft, { mode: 0o600, flags: "wx", flush: true });
      const closed = new Promise<void>((resolve) => file.once("close", resolve));
      // An aborted pipeline does not wait until the file is closed.
      try {
        const limited = this.#limit(untilAborted(content, signal));
        await pipeline(search(limited, options.forbidden), file, { signal });
      } finally {
        await closed;
      }
      if (!(await options.mayPublish())) throw new Unfit("the agent has begun");
      const time = now() / 1_000;
      await utimes(draft, time, time);
      crashpoint("setup_cache.written");
      await rename(draft, path);
    } finally {
      await rm(draft, { force: true });
      this.#drafts.delete(draftName);
    }
    for (const entry of findSurplus(await this.#list(), maxBytes)) await rm(join(dir, entry.name), { force: true });
  }

  #nameDraft(person: string): string {
    const name = `${person}/.new-${randomBytes(6).toString("hex")}`;
    this.#drafts.add(name);
    return name;
  }

  /** Ends a content that is too large, or that the disk has too little room for. */
  async *#limit(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    const { dir, maxBytes, floorBytes } = this.#options;
    const most = Math.floor(maxBytes / 4);
    let bytes = 0;
    let lookAt = 0;
    for await (const chunk of content) {
      bytes += chunk.length;
      if (bytes > most) throw new Unfit(`it is larger than ${Math.floor(most / 2 ** 20)} MB`);
      if (bytes > lookAt) {
        lookAt = bytes + LOOK_BYTES;
        const { bavail, bsize } = await statfs(dir);
        if (bavail * bsize < floorBytes + LOOK_BYTES) throw new Unfit("the server has too little free disk space");
      }
      yield chunk;
    }
  }

  #isOld(savedAt: number): boolean {
    return this.#options.now() - savedAt > this.#options.maxAgeMs;
  }

  #list(): Promise<Entry[]> {
    return this.#listFiles(KEPT);
  }

  async #listFiles(pattern: RegExp): Promise<Entry[]> {
    const { dir } = this.#options;
    const people = (await readdir(dir).catch(() => [])).filter((name) => PERSON.test(name));
    const names = await Promise.all(
      people.map(async (person) => {
        const files = await readdir(join(dir, person)).catch(() => []);
        return files.filter((file) => pattern.test(file)).map((file) => `${person}/${file}`);
      }),
    );
    const found = await Promise.all(
      names.flat().map(async (name) => {
        const entry = await stat(join(dir, name)).catch(() => null);
        if (entry === null) return [];
        // Disk images are sparse.
        const bytes = name.endsWith(".img") ? entry.blocks * 512 : entry.size;
        return [{ name, bytes, savedAt: entry.mtimeMs, usedAt: Math.max(entry.atimeMs, entry.mtimeMs) }];
      }),
    );
    return found.flat();
  }
}

/** A stream that nobody reads would end the process when its file is gone. */
async function* readLazily(path: string): AsyncGenerator<Uint8Array> {
  yield* createReadStream(path, { highWaterMark: PIECE_BYTES }) as AsyncIterable<Buffer>;
}

function toName({ userId, digest }: SetupKey): string {
  if (!PERSON.test(userId) || !DIGEST.test(digest)) throw new Error("not the key of a setup cache");
  return `${userId}/${digest}.tar`;
}

function toDiskName({ userId, digest, repo, sizeMb }: SetupDiskKey): string {
  const archive = toName({ userId, digest });
  if (!REPO.test(repo) || !Number.isInteger(sizeMb)) throw new Error("not the key of a setup cache");
  return archive.replace(/tar$/, `${repo}.${sizeMb}.img`);
}

/** Of the archive that an entry is or was made of. */
const toArchiveName = (name: string): string => name.replace(/(?<=\/[0-9a-f]{64}\.).*$/, "tar");

/** Those that do not fit, the least recently used first. */
function findSurplus(entries: readonly Entry[], maxBytes: number): Entry[] {
  let room = maxBytes;
  return entries
    .toSorted((a, b) => b.usedAt - a.usedAt)
    .filter(({ bytes }) => (room -= bytes) < 0)
    .toReversed();
}

/** An abort ends it at once, also while the content says nothing. */
async function* untilAborted(content: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const iterator = content[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await raceAbort(iterator.next(), signal);
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    iterator.return?.().catch(() => undefined);
  }
}

/** Ends a content that has one of the texts, also where it is cut in two. */
async function* search(
  content: AsyncIterable<Uint8Array>,
  forbidden: SaveOptions["forbidden"],
): AsyncGenerator<Uint8Array> {
  const needles = forbidden.map(({ text, what }) => ({ bytes: Buffer.from(text), what }));
  const keep = Math.max(0, ...needles.map(({ bytes }) => bytes.length - 1));
  let end = Buffer.alloc(0);
  for await (const chunk of content) {
    const text =
      end.length === 0 ? Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length) : Buffer.concat([end, chunk]);
    const found = needles.find(({ bytes }) => text.includes(bytes));
    if (found !== undefined) throw new Unfit(`it contains ${found.what}`);
    end = Buffer.from(text.subarray(Math.max(0, text.length - keep)));
    yield chunk;
  }
}

function isOfDisk(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return ["ENOSPC", "EDQUOT", "EACCES", "EROFS", "EMFILE", "ENFILE", "EIO", "EFBIG", "ENOENT"].includes(code);
}
