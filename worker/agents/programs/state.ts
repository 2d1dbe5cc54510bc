/**
 * Keeps the files in which a program holds its conversation: they are part of the transcript, and a
 * later attempt, in another sandbox, gets them back.
 *
 * F1 Files count only up to the last record of a session, which is written after them: a save that
 *    was cut off changes nothing.
 * F2 A file that has grown is saved from its old end. One that another process writes meanwhile,
 *    such as a database, may be torn: the program then refuses it and begins anew.
 * F3 The saved bytes are limited. Beyond the limit the program's conversation is not saved, and a
 *    notice reports it.
 */
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, stat, lstat, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { z } from "zod";
import type { AgentContext } from "../agent.ts";
import type { ProgramConversation } from "./conversation.ts";

/** Where known programs keep their conversations, below the home directory. */
const KNOWN_STATE = [
  ".claude/projects",
  ".local/share/opencode/opencode.db",
  ".local/share/opencode/opencode.db-wal",
  ".local/share/opencode/storage",
  ".codex/sessions",
  ".gemini/tmp",
];
const MAX_FILES = 500;
/** Bytes of one file, of one record before compression, and of all records of this process. */
const FILE_LIMIT = 16 * 2 ** 20;
const CHUNK = 512 * 1024;
const WRITE_LIMIT = 16 * 2 ** 20;
/** Between two saves: a time, and more of it after a large one. */
const INTERVAL_MS = 5_000;
const MS_PER_MB = 10_000;

const path = z.string().regex(/^(?!\/)(?!.*(?:^|\/)\.\.?(?:\/|$))[^\0]+$/);
const recordSchema = z.discriminatedUnion("kind", [
  /** At 0 the file is replaced, elsewhere continued. */
  z.object({ kind: z.literal("program.file"), path, at: z.int().min(0), data: z.base64() }),
  z.object({ kind: z.literal("program.gone"), path }),
  z.object({ kind: z.literal("program.session"), agent: z.string(), cwd: z.string(), id: z.string() }),
]);
type StateRecord = z.infer<typeof recordSchema>;

interface Saved {
  readonly size: number;
  readonly hash: string;
  /** Of the file when it was read; null = it was restored. */
  readonly mtimeMs: number | null;
}

export interface ProgramStateParts {
  readonly context: AgentContext;
  readonly conversation: ProgramConversation;
  /** The checkout: a session belongs to its directory. */
  readonly root: string;
  /** The program's home directory. */
  readonly home: string;
  /** Below the home directory; absent = those of known programs. */
  readonly paths: readonly string[] | undefined;
}

export class ProgramState {
  readonly #parts: ProgramStateParts;
  readonly #paths: readonly string[];
  readonly #saved = new Map<string, Saved>();
  #session: string | null = null;
  #dueAt = -Infinity;
  #written = 0;

  constructor(parts: ProgramStateParts) {
    this.#parts = parts;
    this.#paths = parts.paths ?? KNOWN_STATE;
  }

  /**
   * Writes the files of the last session, except those that exist: a worker that was restarted in
   * its sandbox has newer ones.
   * @returns the session; null = there is none that this program could continue here.
   */
  async restore(): Promise<string | null> {
    const { context, root, home } = this.#parts;
    const { session, files } = foldRecords(context.transcript.records.map(({ data }) => data));
    if (session === null || session.agent !== context.spec.agent || session.cwd !== root || files.size === 0)
      return null;
    for (const [name, content] of files) {
      const file = join(home, name);
      this.#saved.set(name, { size: content.length, hash: hash(content), mtimeMs: null });
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, content, { flag: "wx", mode: 0o600 }).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== "EEXIST") throw error;
      });
    }
    this.#session = session.id;
    return session.id;
  }

  /** Removes what the program could not continue. */
  async discard(): Promise<void> {
    for (const name of this.#saved.keys()) await rm(join(this.#parts.home, name), { force: true });
    this.#saved.clear();
    this.#session = null;
  }

  /** `due`: when the last save is some time old. Rejects only when the agent must stop. */
  async save(session: string, mode: "due" | "now"): Promise<void> {
    if (this.#written > WRITE_LIMIT || (mode === "due" && performance.now() < this.#dueAt)) return;
    const { conversation, context, root } = this.#parts;
    const before = this.#written;
    let isChanged = session !== this.#session;
    const found = await this.#listFiles();
    for (const name of found) isChanged = (await this.#saveFile(name)) || isChanged;
    for (const name of [...this.#saved.keys()].filter((known) => !found.includes(known))) {
      this.#saved.delete(name);
      isChanged = true;
      await conversation.append({ kind: "program.gone", path: name });
    }
    if (isChanged && this.#written <= WRITE_LIMIT) {
      await conversation.append({ kind: "program.session", agent: context.spec.agent, cwd: root, id: session });
      this.#session = session;
    }
    const megabytes = (this.#written - before) / 2 ** 20;
    this.#dueAt = performance.now() + INTERVAL_MS + megabytes * MS_PER_MB;
  }

  /** @returns true when it has changed. */
  async #saveFile(name: string): Promise<boolean> {
    const file = join(this.#parts.home, name);
    const known = this.#saved.get(name);
    try {
      const { size, mtimeMs } = await stat(file);
      if (known !== undefined && known.size === size && known.mtimeMs === mtimeMs) return false;
      if (size > FILE_LIMIT) return (this.#giveUp(), false);
      const content = this.#withoutSecrets(await readFile(file));
      const continues =
        known !== undefined && content.length >= known.size && hash(content.subarray(0, known.size)) === known.hash;
      this.#saved.set(name, { size: content.length, hash: hash(content), mtimeMs });
      if (continues && content.length === known.size) return false;
      return await this.#append(name, content, continues ? known.size : 0);
    } catch (error) {
      // Programs remove their files at any time.
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return false;
      throw error;
    }
  }

  async #append(name: string, content: Buffer, from: number): Promise<boolean> {
    const { conversation } = this.#parts;
    for (let at = from; at === from || at < content.length; at += CHUNK) {
      const data = gzipSync(content.subarray(at, at + CHUNK)).toString("base64");
      this.#written += data.length;
      if (this.#written > WRITE_LIMIT) return (this.#giveUp(), false);
      if (!(await conversation.append({ kind: "program.file", path: name, at, data }))) return false;
    }
    return true;
  }

  /** The length stays, because databases count bytes. */
  #withoutSecrets(content: Buffer): Buffer {
    return Buffer.from(this.#parts.context.secrets.blank(content.toString("latin1")), "latin1");
  }

  #giveUp(): void {
    this.#written = Infinity;
    this.#parts.context.emit("notice", {
      level: "warning",
      code: "memory_full",
      text: "The program's own conversation has grown too large to be kept. After an interruption it would begin a new one with a summary.",
    });
  }

  async #listFiles(): Promise<string[]> {
    const { home } = this.#parts;
    const found: string[] = [];
    const walk = async (name: string): Promise<void> => {
      const info = await lstat(join(home, name)).catch(() => null);
      if (info?.isFile() === true && found.length < MAX_FILES) found.push(name);
      if (info?.isDirectory() !== true) return;
      const entries: string[] = await readdir(join(home, name)).catch(() => []);
      for (const entry of entries) await walk(relative(home, join(home, name, entry)));
    };
    for (const name of this.#paths) await walk(name);
    return found;
  }
}

const hash = (content: Buffer): string => createHash("sha256").update(content).digest("base64");

interface Folded {
  readonly session: Extract<StateRecord, { kind: "program.session" }> | null;
  readonly files: ReadonlyMap<string, Buffer>;
}

function foldRecords(records: readonly unknown[]): Folded {
  let session: Folded["session"] = null;
  const files = new Map<string, Buffer>();
  let pending: Exclude<StateRecord, { kind: "program.session" }>[] = [];
  for (const data of records) {
    const parsed = recordSchema.safeParse(data);
    if (!parsed.success) continue;
    const record = parsed.data;
    if (record.kind !== "program.session") {
      pending.push(record);
      continue;
    }
    session = record;
    for (const change of pending) applyChange(files, change);
    pending = [];
  }
  return { session, files };
}

function applyChange(files: Map<string, Buffer>, change: Exclude<StateRecord, { kind: "program.session" }>): void {
  if (change.kind === "program.gone") return void files.delete(change.path);
  const before = change.at === 0 ? Buffer.alloc(0) : (files.get(change.path) ?? Buffer.alloc(0));
  const content = gunzipSync(Buffer.from(change.data, "base64"), { maxOutputLength: FILE_LIMIT });
  files.set(change.path, Buffer.concat([before.subarray(0, change.at), content]));
}
