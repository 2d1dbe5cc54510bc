/**
 * Attachments as folders: `<dir>/<id>/content`, `about.json` beside it, and an empty file for each
 * task that it was given to. One process at a time uses the folder.
 *
 * F1 A folder appears whole, by rename; until then its name begins with `tmp_`. A start removes
 *    what an earlier process left under such a name.
 * F2 The id is a hash of the person, the name and the content, so a second upload of the same file
 *    finds the first.
 * F3 The age of an upload is the modification time of its content.
 */
import { createHash, randomBytes } from "node:crypto";
import { createReadStream, mkdirSync, readdirSync, rmSync } from "node:fs";
import { mkdir, open, readdir, readFile, rename, rm, stat, statfs, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { KeyedMutex } from "../../core/lib/concurrency/keyed-mutex.ts";
import { isDiskFullError } from "../../core/lib/disk/disk-full.ts";
import { replaceFile } from "../../core/lib/runtime/replace-file.ts";
import { SlipwayError } from "../../core/error.ts";
import type {
  AttachmentLimits,
  Attachments,
  AttachmentUsage,
  Received,
  StoredAttachment,
  Upload,
} from "../../core/ports/files/attachments.ts";
import { ATTACHMENT_ID, cleanName, storedAttachmentSchema, type Attachment } from "../../core/values/attachment.ts";
import { PersonQuota } from "./person-quota.ts";
import { receiveFile } from "./receive-file.ts";

export interface AttachmentFilesOptions {
  readonly dir: string;
  readonly limits: AttachmentLimits;
  /** Epoch ms. */
  readonly now: () => number;
}

const TASK_ID = /^task_[0-9a-z]{1,64}$/i;
const DRAFT = "tmp_";
/** Free disk space required beside the file, bytes. */
const SPARE_BYTES = 256 * 2 ** 20;

export function openAttachmentFiles(options: AttachmentFilesOptions): Attachments {
  const { dir } = options;
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(dir)) if (name.startsWith(DRAFT)) rmSync(join(dir, name), { recursive: true });
  return new AttachmentFiles(options);
}

class AttachmentFiles implements Attachments {
  readonly limits: AttachmentLimits;
  readonly #dir: string;
  readonly #now: () => number;
  readonly #quota: PersonQuota;
  /** By id: a removal does not pass a task that is given the same attachment. */
  readonly #mutex = new KeyedMutex();

  constructor({ dir, limits, now }: AttachmentFilesOptions) {
    this.#dir = dir;
    this.#now = now;
    this.limits = limits;
    this.#quota = new PersonQuota(limits.personBytes, () => this.#readAll());
  }

  bytesOf(userId: string): Promise<number> {
    return this.#quota.bytesOf(userId);
  }

  async receive({ userId, name, content, length }: Upload): Promise<Received> {
    const { fileBytes } = this.limits;
    if (length !== null && length > fileBytes) throw tooLarge(fileBytes);
    const release = await this.#quota.reserve(userId, length ?? fileBytes);
    const draft = join(this.#dir, `${DRAFT}${randomBytes(8).toString("hex")}`);
    const discard = async (): Promise<void> => {
      await rm(draft, { recursive: true, force: true });
      release();
    };
    try {
      await this.#assertFreeSpace(length ?? fileBytes);
      await mkdir(draft, { mode: 0o700 });
      const { bytes, sha256, kind } = await receiveFile(content, join(draft, "content"), length ?? fileBytes);
      const clean = cleanName(name);
      const id = toId(userId, clean, sha256);
      const attachment: Attachment = { id, name: clean, bytes, ...kind };
      const about = { ...attachment, userId, sha256 };
      await writeFile(join(draft, "about.json"), JSON.stringify(about), { mode: 0o600, flush: true });
      const keep = async (): Promise<Attachment> => {
        await this.#mutex.run(id, () => this.#keep(draft, about));
        await discard();
        return attachment;
      };
      return { attachment, keep, discard };
    } catch (error) {
      await discard();
      throw toUploadError(error);
    }
  }

  async find(id: string): Promise<StoredAttachment | null> {
    if (!ATTACHMENT_ID.test(id)) return null;
    const text = await readFile(join(this.#dir, id, "about.json"), "utf8").catch(() => null);
    if (text === null) return null;
    const { sha256: _sha256, ...found } = storedAttachmentSchema.parse(JSON.parse(text));
    return found;
  }

  async open(id: string): Promise<{ attachment: StoredAttachment; content: AsyncIterable<Uint8Array> } | null> {
    const attachment = await this.find(id);
    if (attachment === null) return null;
    return { attachment, content: createReadStream(join(this.#dir, id, "content")) };
  }

  give(id: string, taskId: string): Promise<boolean> {
    return this.#mutex.run(id, async () => {
      if ((await this.find(id)) === null) return false;
      const mark = this.#mark(id, taskId);
      await writeFile(mark, "", { mode: 0o600 });
      await this.#setTime(mark);
      await sync(join(this.#dir, id));
      return true;
    });
  }

  async tasksOf(id: string): Promise<string[]> {
    if (!ATTACHMENT_ID.test(id)) return [];
    return (await readdir(join(this.#dir, id)).catch(() => [])).filter((name) => TASK_ID.test(name));
  }

  async isGiven(id: string, taskId: string): Promise<boolean> {
    if (!ATTACHMENT_ID.test(id)) return false;
    return (await stat(this.#mark(id, taskId)).catch(() => null)) !== null;
  }

  async take(id: string, taskId: string): Promise<void> {
    await this.#mutex.run(id, () => rm(this.#mark(id, taskId), { force: true }));
  }

  async usage(): Promise<AttachmentUsage[]> {
    const found: AttachmentUsage[] = [];
    for (const id of await this.#ids()) {
      const usage = await this.#usageOf(id);
      if (usage !== null) found.push(usage);
    }
    return found;
  }

  release(id: string, taskIds: readonly string[], before: number): Promise<boolean> {
    return this.#mutex.run(id, async () => {
      for (const taskId of taskIds) await rm(this.#mark(id, taskId), { force: true });
      const [usage, about] = [await this.#usageOf(id), await this.find(id)];
      if (usage === null || usage.tasks.length > 0 || usage.at >= before) return false;
      await this.#remove(id, about);
      return true;
    });
  }

  async removePerson(userId: string, alias: string): Promise<void> {
    for (const id of await this.#ids())
      await this.#mutex.run(id, async () => {
        const about = await this.find(id);
        if (about?.userId !== userId) return;
        if ((await this.tasksOf(id)).length === 0) return await this.#remove(id, about);
        const path = join(this.#dir, id, "about.json");
        const stored = storedAttachmentSchema.parse(JSON.parse(await readFile(path, "utf8")));
        replaceFile(path, JSON.stringify({ ...stored, userId: alias }));
        await this.#quota.remove(userId, id);
      });
  }

  /** Under the mutex of the id. */
  async #remove(id: string, about: StoredAttachment | null): Promise<void> {
    // By rename first: what is half removed is not found.
    const gone = join(this.#dir, `${DRAFT}${randomBytes(8).toString("hex")}`);
    await rename(join(this.#dir, id), gone);
    await rm(gone, { recursive: true, force: true });
    if (about !== null) await this.#quota.remove(about.userId, id);
  }

  /** Under the mutex of the id. */
  async #keep(draft: string, { id, userId, bytes }: StoredAttachment): Promise<void> {
    const folder = join(this.#dir, id);
    if ((await this.find(id)) === null) {
      await this.#setTime(join(draft, "content"));
      await sync(draft);
      await rename(draft, folder);
      await sync(this.#dir);
    } else await this.#setTime(join(folder, "content"));
    await this.#quota.add(userId, id, bytes);
  }

  async #usageOf(id: string): Promise<AttachmentUsage | null> {
    const folder = join(this.#dir, id);
    const content = await stat(join(folder, "content")).catch(() => null);
    if (content === null) return null;
    const names = (await readdir(folder)).filter((name) => TASK_ID.test(name));
    const tasks = await Promise.all(
      names.map(async (taskId) => ({ taskId, at: (await stat(join(folder, taskId))).mtimeMs })),
    );
    return { id, bytes: content.size, at: content.mtimeMs, tasks };
  }

  async #ids(): Promise<string[]> {
    return (await readdir(this.#dir)).filter((name) => ATTACHMENT_ID.test(name));
  }

  async #readAll(): Promise<StoredAttachment[]> {
    const all = await Promise.all((await this.#ids()).map((id) => this.find(id)));
    return all.filter((found) => found !== null);
  }

  #mark(id: string, taskId: string): string {
    if (!ATTACHMENT_ID.test(id) || !TASK_ID.test(taskId)) throw new Error("not an id");
    return join(this.#dir, id, taskId);
  }

  async #setTime(path: string): Promise<void> {
    const seconds = this.#now() / 1_000;
    await utimes(path, seconds, seconds);
  }

  async #assertFreeSpace(bytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.#dir);
    if (bavail * bsize < bytes + SPARE_BYTES) throw diskFull();
  }
}

function toId(userId: string, name: string, sha256: string): string {
  const hash = createHash("sha256")
    .update(JSON.stringify([userId, name, sha256]))
    .digest("hex");
  return `att_${hash.slice(0, 26)}`;
}

/** Makes the entries of a folder durable. */
async function sync(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

const tooLarge = (limit: number): SlipwayError =>
  new SlipwayError(
    "payload_too_large",
    `An attachment has at most ${Math.floor(limit / 2 ** 20)} MB. Attach a smaller file.`,
  );

const diskFull = (): SlipwayError =>
  new SlipwayError("unavailable", "The server has too little free disk space for attachments. Tell its operator.");

const toUploadError = (error: unknown): unknown => (isDiskFullError(error) ? diskFull() : error);
