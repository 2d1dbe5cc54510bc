/**
 * Attachments of people and of tasks.
 *
 * A1 A person gives to a task what they uploaded. It is given before the task or the message is
 *    recorded, so that nothing recorded names a file that may be removed.
 * A2 A task that continues another one is given everything that the other had: its conversation
 *    shows the pictures, and its commands look for the files.
 * A3 An attachment that a person may not see is `not_found` (rule S2). A person who may see a task
 *    may see its attachments.
 */
import { SlipwayError } from "../../../core/error.ts";
import type {
  AttachmentLimits,
  Attachments,
  Received,
  StoredAttachment,
  Upload,
} from "../../../core/ports/files/attachments.ts";
import type { Identity } from "../../../core/ports/accounts.ts";
import type { EventData } from "../../../core/event.ts";
import type { Store } from "../../../core/ports/store.ts";
import type { Task, TaskSpec } from "../../../core/task.ts";
import { attachmentBlockSchema, toAttachment, type Attachment } from "../../../core/values/attachment.ts";
import type { TaskCreation, TaskLog } from "../../task-log.ts";
import { readLogWithoutWorker } from "../../read-lists.ts";

export interface AttachmentDeps {
  readonly store: Pick<Store, "task" | "eventsOfOthers">;
  /** Absent = this installation takes none. */
  readonly attachments?: Attachments;
}

/** Files of a thread that a sandbox gets, the newest. */
const MOST_EARLIER = 100;

/** What users do with attachments. */
export interface AttachmentService {
  /** Null = this installation takes none. */
  readonly limits: AttachmentLimits | null;
  /** @throws SlipwayError as `Attachments.receive`, and `unavailable` where none are taken. */
  receive(person: Identity, upload: Omit<Upload, "userId">): Promise<Received>;
  /**
   * `not_found` for what the person did not upload, unless it was given to a task that they see.
   * A caller that stops reading early must end the iteration, which closes the file.
   */
  open(
    person: Identity,
    id: string,
  ): Promise<{ readonly attachment: StoredAttachment; readonly content: AsyncIterable<Uint8Array> }>;
}

export class TaskAttachments implements AttachmentService {
  readonly #deps: AttachmentDeps;

  constructor(deps: AttachmentDeps) {
    this.#deps = deps;
  }

  get limits(): AttachmentLimits | null {
    return this.#deps.attachments?.limits ?? null;
  }

  async receive({ userId }: Identity, upload: Omit<Upload, "userId">): Promise<Received> {
    const { attachments } = this.#deps;
    if (attachments === undefined) throw new SlipwayError("unavailable", "This server takes no attachments.");
    return await attachments.receive({ ...upload, userId });
  }

  async open(
    person: Identity,
    id: string,
  ): Promise<{ attachment: StoredAttachment; content: AsyncIterable<Uint8Array> }> {
    const found = await this.#deps.attachments?.find(id);
    const isVisible = found && (await this.#isVisible(person, found));
    const opened = isVisible === true ? await this.#deps.attachments?.open(id) : null;
    if (!opened) throw new SlipwayError("not_found", "There is no such attachment.");
    return opened;
  }

  async #isVisible({ userId, role }: Identity, { id, userId: owner }: StoredAttachment): Promise<boolean> {
    if (owner === userId || role !== "user") return true;
    const { store, attachments } = this.#deps;
    for (const taskId of (await attachments?.tasksOf(id)) ?? [])
      if ((await store.task(taskId))?.userId === userId) return true;
    return false;
  }

  /**
   * A1: gives a person's uploads to a task, in this order.
   * @throws SlipwayError `not_found` for an id that is not theirs; nothing was given then.
   */
  async give({ userId }: Identity, ids: readonly string[], taskId: string): Promise<Attachment[]> {
    const found: Attachment[] = [];
    for (const id of ids) {
      const one = await this.#deps.attachments?.find(id);
      if (!one || one.userId !== userId) throw gone(id);
      found.push(toAttachment(one));
    }
    for (const id of ids) {
      if ((await this.#deps.attachments?.give(id, taskId)) === true) continue;
      await this.takeBack(found, taskId);
      throw gone(id);
    }
    return found;
  }

  /** A2: gives what a plan names to its task. @returns the plan without what is gone. */
  async inherit(spec: TaskSpec, taskId: string): Promise<TaskSpec> {
    const given = new Set<string>();
    for (const { id } of filesOf(spec)) if ((await this.#deps.attachments?.give(id, taskId)) === true) given.add(id);
    const isGiven = ({ id }: Attachment): boolean => given.has(id);
    return withFiles(spec, (spec.attachments ?? []).filter(isGiven), (spec.earlierAttachments ?? []).filter(isGiven));
  }

  /** Creates a task with what its plan names. One that is not made is given nothing. */
  async create(taskLog: Pick<TaskLog, "create">, creation: TaskCreation): Promise<{ task: Task; replayed: boolean }> {
    const { id } = creation;
    const spec = await this.inherit(creation.spec, id);
    try {
      const created = await taskLog.create({ ...creation, spec });
      if (created.task.id !== id) await this.takeBack(filesOf(spec), id);
      return created;
    } catch (error) {
      // A commit whose end is not known keeps them until garbage is collected.
      if (error instanceof SlipwayError) await this.takeBack(filesOf(spec), id);
      throw error;
    }
  }

  async takeBack(given: readonly Pick<Attachment, "id">[], taskId: string): Promise<void> {
    for (const { id } of given) await this.#deps.attachments?.take(id, taskId);
  }
}

const gone = (id: string): SlipwayError =>
  new SlipwayError(
    "not_found",
    `There is no attachment ${id}: it was never uploaded, or no task named it for a week. Attach the file again.`,
  );

/** Everything that a task's sandbox gets at its start: the files of earlier tasks first. */
export function filesOf({
  attachments = [],
  earlierAttachments = [],
}: Pick<TaskSpec, "attachments" | "earlierAttachments">): Attachment[] {
  return [...new Map([...earlierAttachments, ...attachments].map((one) => [one.id, one])).values()];
}

/**
 * @param earlier what others of the thread were given; what the task itself is given is left out.
 */
export function withFiles(spec: TaskSpec, own: readonly Attachment[], earlier: readonly Attachment[]): TaskSpec {
  const { attachments: _own, earlierAttachments: _earlier, ...rest } = spec;
  const others = earlier.filter(({ id }) => own.every((one) => one.id !== id));
  return {
    ...rest,
    ...(own.length === 0 ? {} : { attachments: own }),
    ...(others.length === 0 ? {} : { earlierAttachments: others }),
  };
}

/** The parts of a worker's spec. */
export function toWorkerFiles({ attachments, earlierAttachments }: TaskSpec) {
  return {
    ...(attachments === undefined ? {} : { attachments: [...attachments] }),
    ...(earlierAttachments === undefined ? {} : { earlierAttachments: [...earlierAttachments] }),
  };
}

/** A2: what a task has been given so far, oldest first, for one that continues it. */
export async function readEarlier(
  store: Pick<Store, "eventsOfOthers">,
  { id, spec }: Pick<Task, "id" | "spec">,
): Promise<Attachment[]> {
  const all = new Map(filesOf(spec).map((one) => [one.id, one]));
  for await (const { type, data } of readLogWithoutWorker(store, id, 0))
    if (type === "message") for (const one of attachmentsOf(data["content"])) all.set(one.id, one);
  return [...all.values()].slice(-MOST_EARLIER);
}

/** The attachments in the content of a message. */
export function attachmentsOf(content: unknown): Attachment[] {
  if (!Array.isArray(content)) return [];
  return content.flatMap((block: unknown) => {
    const parsed = attachmentBlockSchema.safeParse(block);
    return parsed.success ? [toAttachment(parsed.data)] : [];
  });
}

/** The content of a person's message. */
export function toContent(text: string, given: readonly Attachment[]): EventData[] {
  return [{ type: "text", text }, ...given.map((one) => ({ type: "attachment", ...one }))];
}
