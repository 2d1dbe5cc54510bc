/** The attachment port: files that people give to tasks. */
import type { Attachment } from "../../values/attachment.ts";

export interface AttachmentLimits {
  /** Of one file. */
  readonly fileBytes: number;
  /** Of all files of one person together. */
  readonly personBytes: number;
}

/** What a person sends; the name is as they gave it. */
export interface Upload {
  readonly userId: string;
  readonly name: string;
  readonly content: AsyncIterable<Uint8Array>;
  /** The announced length; null = unknown. */
  readonly length: number | null;
}

/** A file that arrived whole and is not kept yet. */
export interface Received {
  readonly attachment: Attachment;
  /** Keeps it: durable when this resolves. The same file of the same person is kept once. */
  keep(): Promise<Attachment>;
  /** Drops what is not kept, and gives its bytes back to the person. Idempotent. */
  discard(): Promise<void>;
}

export interface StoredAttachment extends Attachment {
  readonly userId: string;
}

/** Leaving the iteration of `content` early closes the file. */
export interface OpenedAttachment {
  readonly attachment: StoredAttachment;
  readonly content: AsyncIterable<Uint8Array>;
}

export interface AttachmentUsage {
  readonly id: string;
  readonly bytes: number;
  /** When it was uploaded last, epoch ms. */
  readonly at: number;
  /** The tasks that it was given to, and since when, epoch ms. */
  readonly tasks: readonly { readonly taskId: string; readonly at: number }[];
}

/**
 * Keeps each file of a person once; its id is a function of the person, the name and the content.
 * What was given to a task stays until that task lets go of it.
 */
export interface Attachments {
  readonly limits: AttachmentLimits;
  /**
   * Receives a file. What breaks off leaves nothing, also when the process dies.
   * @throws SlipwayError `payload_too_large`, `attachments_full`, `rate_limited` when the person
   * sends too many at once, `unavailable` when the disk is full. Rejects with the error of
   * `content`.
   */
  receive(upload: Upload): Promise<Received>;
  /** Null for an unknown one. */
  find(id: string): Promise<StoredAttachment | null>;
  /** Null for an unknown one. */
  open(id: string): Promise<OpenedAttachment | null>;
  /** Gives it to the task; durable when this resolves. @returns false when it is gone. */
  give(id: string, taskId: string): Promise<boolean>;
  isGiven(id: string, taskId: string): Promise<boolean>;
  /** The tasks that it was given to; empty for an unknown one. */
  tasksOf(id: string): Promise<string[]>;
  /** Takes it from the task. Idempotent. */
  take(id: string, taskId: string): Promise<void>;
  usage(): Promise<AttachmentUsage[]>;
  /** What the person's take, a small one as much as a block. */
  bytesOf(userId: string): Promise<number>;
  /**
   * Takes it from these tasks, and removes it when no task has it and it was uploaded before
   * `before`, epoch ms. @returns true when it was removed.
   */
  release(id: string, taskIds: readonly string[], before: number): Promise<boolean>;
  /**
   * Removes what the person uploaded and no task has; what they gave to tasks of others goes on
   * under the alias. Idempotent.
   */
  removePerson(userId: string, alias: string): Promise<void>;
}
