/**
 * All that a person has, as one tar archive (rule R10).
 *
 * E1 Read as that person with the role `user`: nothing that only others may see gets in. No
 *    password, key or token is in it, nor anything sealed.
 * E2 One part at a time is in memory: a page of a list, or a piece of a file. A slow reader holds
 *    it up, and a reader that leaves ends it.
 */
import { once } from "node:events";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { pack as openPack, type Pack } from "tar-stream";
import type { Identity, User } from "../../../core/ports/accounts.ts";
import type { AuditQuery, AuditRow } from "../../../core/ports/records/audit.ts";
import type { Page } from "../../../core/lib/pagination.ts";
import { SlipwayError } from "../../../core/error.ts";
import { commitIdentityKey, readCommitIdentity } from "../../../core/values/git-identity.ts";
import type { Task } from "../../../core/task.ts";
import type { ApiDeps } from "../../route.ts";
import { toTaskView } from "../tasks.ts";

interface FileEntry {
  readonly name: string;
  /** Of the content. */
  readonly bytes: number;
  readonly content: AsyncIterable<Uint8Array>;
}
type Entry = { readonly name: string; readonly text: string } | FileEntry;
type Entries = AsyncGenerator<Entry, void, undefined>;

const TASKS = 200;
const ROWS = 1_000;

const jsonEntry = (name: string, value: unknown): Entry => ({ name, text: `${JSON.stringify(value, null, 2)}\n` });
const linesEntry = (name: string, rows: readonly unknown[]): Entry => ({
  name,
  text: rows.map((row) => `${JSON.stringify(row)}\n`).join(""),
});

/** The gzipped archive. Leaving the iteration early ends the work. */
export async function* archivePerson(deps: ApiDeps, user: User): AsyncGenerator<Uint8Array, void, undefined> {
  const stop = new AbortController();
  const pack = openPack();
  const gzip = createGzip();
  // When the reader leaves, both streams are destroyed with an error that has no other listener.
  for (const stream of [pack, gzip]) stream.on("error", () => undefined);
  const piped = pipeline(pack, gzip, { signal: stop.signal }).catch(
    (error: unknown) => void gzip.destroy(error as Error),
  );
  const filled = fill(pack, listEntries(deps, user), stop.signal).then(
    () => pack.finalize(),
    (error: unknown) => pack.destroy(error as Error),
  );
  try {
    for await (const chunk of gzip) yield chunk as Uint8Array;
  } finally {
    stop.abort();
    pack.destroy(new Error("The reader has left."));
    await piped;
    await filled;
  }
}

async function fill(pack: Pack, entries: Entries, signal: AbortSignal): Promise<void> {
  for await (const entry of entries) {
    signal.throwIfAborted();
    await ("text" in entry ? addText(pack, entry.name, entry.text) : addFile(pack, entry, signal));
  }
}

/** Resolves when the archive has taken it, which waits for the reader. */
function addText(pack: Pack, name: string, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    pack.entry({ name }, text, (error) => (error ? reject(error) : resolve()));
  });
}

async function addFile(pack: Pack, { name, bytes, content }: FileEntry, signal: AbortSignal): Promise<void> {
  let settle: (error?: Error | null) => void = () => undefined;
  const added = new Promise<void>((resolve, reject) => {
    settle = (error) => (error ? reject(error) : resolve());
  });
  const sink = pack.entry({ name, size: bytes }, (error) => settle(error));
  added.catch(() => undefined);
  sink.on("error", (error: Error) => settle(error));
  // Leaving the loop closes the file.
  for await (const chunk of content) if (!sink.write(chunk)) await once(sink, "drain", { signal });
  sink.end(Buffer.alloc(0));
  await added;
}

async function* listEntries(deps: ApiDeps, user: User): Entries {
  yield* listAccount(deps, user);
  const person: Identity = { userId: user.id, role: "user" };
  const files = new Set<string>();
  for (let before: string | undefined; ;) {
    const page = await deps.store.tasks({
      userId: user.id,
      limit: TASKS,
      ...(before === undefined ? {} : { before }),
    });
    for (const task of page.items) yield* listTask(deps, person, task, files);
    before = page.items.at(-1)?.id;
    if (!page.more || before === undefined) break;
  }
  for (const id of files) {
    const opened = await orNothing(deps.tasks.attachments.open(person, id));
    if (opened === null) continue;
    const { name, bytes } = opened.attachment;
    yield { name: `attachments/${id}/${name}`, bytes, content: opened.content };
  }
  yield* listAudit(deps, user.id);
}

async function* listAccount(deps: ApiDeps, user: User): Entries {
  const { id: userId, email, role, createdAt } = user;
  const { accounts, store } = deps;
  const commitIdentity = readCommitIdentity(await store.setting(commitIdentityKey(userId)));
  yield jsonEntry("profile.json", { id: userId, email, role, createdAt, commitIdentity });
  yield jsonEntry("usage.json", await deps.tasks.quotas.usage(userId));
  const sessions = await accounts.openSessions(userId);
  yield jsonEntry(
    "sessions.json",
    sessions.map(({ id, device, address, createdAt: since, rotatedAt, expiresAt }) => {
      return { id, device, address, createdAt: since, lastUsedAt: rotatedAt, expiresAt };
    }),
  );
  yield jsonEntry(
    "tokens.json",
    (await accounts.tokens(userId)).map(({ hash: _, ...row }) => row),
  );
  yield jsonEntry(
    "credentials.json",
    (await accounts.credentials(userId)).map(({ sealed: _, ...row }) => row),
  );
  yield jsonEntry("variables.json", await deps.variables.list(userId, null));
  yield jsonEntry("identities.json", await accounts.identities(userId));
  const passkeys = await accounts.passkeys(userId);
  yield jsonEntry(
    "passkeys.json",
    passkeys.map(({ id, name, rpId, transports, createdAt: since, lastUsedAt }) => {
      return { id, name, rpId, transports, createdAt: since, lastUsedAt };
    }),
  );
  const devices = await deps.notifications.devices(userId);
  yield jsonEntry(
    "devices.json",
    devices.map(({ device: { id, via, label, kinds, createdAt: since } }) => {
      return { id, via, label, kinds, createdAt: since };
    }),
  );
}

/** @param files gets the ids of its attachments. */
async function* listTask(deps: ApiDeps, person: Identity, task: Task, files: Set<string>): Entries {
  const { store } = deps;
  const folder = `tasks/${task.id}`;
  for (const { id } of task.spec.attachments ?? []) files.add(id);
  yield jsonEntry(`${folder}/task.json`, { ...(await toTaskView(deps, task)), prompt: task.spec.prompt });
  yield* listRows(`${folder}/events`, (seq) => store.events(task.id, seq, ROWS));
  yield* listRows(`${folder}/messages`, async (seq) => {
    const page = await store.messages(task.id, seq, ROWS);
    for (const { content } of page.items)
      for (const { type, id } of content) if (type === "attachment" && typeof id === "string") files.add(id);
    return page;
  });
  yield* listRows(`${folder}/tool-calls`, (seq) => store.toolCalls(task.id, seq, ROWS));
  for (const { name } of (await orNothing(deps.tasks.artifacts(person, task.id))) ?? []) {
    const found = await orNothing(deps.tasks.artifact(person, task.id, name));
    if (found !== null)
      yield { name: `${folder}/artifacts/${name}`, bytes: found.artifact.bytes, content: found.content };
  }
}

/** A list as files of one page each, whose size is known before they are written. */
async function* listRows(name: string, read: (seq: number) => Promise<Page<{ readonly seq: number }>>): Entries {
  for (let n = 1, seq = 0; ; n++) {
    const { items, more } = await read(seq);
    if (items.length > 0) yield linesEntry(`${name}-${n}.jsonl`, items);
    seq = items.at(-1)?.seq ?? seq;
    if (!more || items.length === 0) return;
  }
}

/** Rows about the person. Who else did it, and from where, is not theirs. */
async function* listAudit(deps: ApiDeps, userId: string): Entries {
  const show = ({ actor, address, ...row }: AuditRow) =>
    actor === userId ? { ...row, actor, address } : { ...row, actor: null, address: null };
  for (const which of ["actor", "target"] as const)
    for (let n = 1, before: number | undefined; ; n++) {
      const query: AuditQuery = { [which]: userId, before, limit: ROWS };
      const rows = await deps.audit.rows(query);
      if (rows.length > 0) yield linesEntry(`audit/${which}-${n}.jsonl`, rows.map(show));
      before = rows.at(-1)?.n;
      if (rows.length < ROWS) break;
    }
}

/** Null for what was deleted meanwhile. */
async function orNothing<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof SlipwayError && error.code === "not_found") return null;
    throw error;
  }
}
