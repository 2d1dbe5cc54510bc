/**
 * An attachment: a file that a person gives with a prompt or a message. Its content and its name
 * are somebody else's: nothing unpacks it, runs it, or shows it as a page.
 */
import { z } from "zod";

export const ATTACHMENT_ID = /^att_[0-9a-f]{26}$/;

/** Attachments of one prompt or one message. */
export const MAX_ATTACHMENTS = 10;

/** The pictures that models read and browsers show. */
export const PICTURE_TYPES = ["image/png", "image/jpeg", "image/gif", "image/webp"] as const;

/** What the provider takes of one picture: 5 MB as base64, and sides of this many pixels. */
const PICTURE_BYTES = 3_700_000;
const PICTURE_SIDE = 8_000;

/** Code points of a name. */
const NAME_LENGTH = 100;
/** UTF-8 bytes of a file name; file systems take 255. */
const FILE_NAME_BYTES = 180;

export const attachmentSchema = z.strictObject({
  id: z.string().regex(ATTACHMENT_ID),
  name: z.string().min(1).max(400).describe("For people. Two attachments may have the same name."),
  mediaType: z.string().max(100).describe("By its bytes; application/octet-stream when they say nothing."),
  bytes: z.int().min(0),
  width: z.int().positive().nullable().describe("Pixels of a picture; null for other files."),
  height: z.int().positive().nullable(),
});
export type Attachment = z.infer<typeof attachmentSchema>;

/** The attachment as it is stored: whose it is, and the digest of its content. */
export const storedAttachmentSchema = attachmentSchema.extend({ userId: z.string(), sha256: z.string() });

/** The attachment as a part of a person's message. */
export const attachmentBlockSchema = attachmentSchema.extend({ type: z.literal("attachment") });

/** Ids in a request, each once. */
export const attachmentIdsSchema = z
  .array(z.string().regex(ATTACHMENT_ID, "must be the id of an attachment"))
  .max(MAX_ATTACHMENTS)
  .refine((ids) => new Set(ids).size === ids.length, "must not contain an id twice");

/** True for a picture that browsers show and that has a size. */
export function isPicture({ mediaType, width, height }: Omit<Attachment, "id" | "name" | "bytes">): boolean {
  return (PICTURE_TYPES as readonly string[]).includes(mediaType) && width !== null && height !== null;
}

/** True for a picture that the provider takes. */
export function isForModel(attachment: Attachment): boolean {
  const { bytes, width, height } = attachment;
  return isPicture(attachment) && bytes <= PICTURE_BYTES && Math.max(width ?? 0, height ?? 0) <= PICTURE_SIDE;
}

/**
 * A name that people can read: the last part of a path, without control, direction and other
 * invisible characters; its end, which says the kind, stays.
 */
export function cleanName(name: string): string {
  const last = name.normalize("NFC").split(/[/\\]/).at(-1) ?? "";
  const points = [
    ...last
      .replaceAll(/[\p{C}\u115f\u1160\u3164\uffa0]/gu, "")
      .replaceAll(/\s+/gu, " ")
      .trim(),
  ];
  if (points.every((point) => point === "." || point === " ")) return "file";
  if (points.length <= NAME_LENGTH) return points.join("");
  const extension = [...(/\.[\p{L}\p{N}]{1,10}$/u.exec(points.join(""))?.[0] ?? "")];
  return [...points.slice(0, NAME_LENGTH - extension.length - 1), "…", ...extension].join("");
}

/**
 * The name of its file in a sandbox: unique among all attachments, the same in each attempt, and
 * safe in a shell.
 */
export function toFileName({ id, name }: Pick<Attachment, "id" | "name">): string {
  const safe = name.replaceAll(/[^\p{L}\p{N}._-]+/gu, "_");
  const cut = countBytes(safe) <= FILE_NAME_BYTES ? safe : shorten(safe);
  return `${id.slice(4, 12)}-${cut}`;
}

const countBytes = (text: string): number => new TextEncoder().encode(text).length;

/** Cuts the middle; the extension stays. */
function shorten(name: string): string {
  const extension = /\.[A-Za-z0-9]{1,10}$/.exec(name)?.[0] ?? "";
  let text = "";
  for (const point of name.slice(0, name.length - extension.length)) {
    if (countBytes(text) + countBytes(point) > FILE_NAME_BYTES - extension.length) break;
    text += point;
  }
  return `${text}${extension}`;
}

/** The attachment alone, of an object that has more fields. */
export function toAttachment({ id, name, mediaType, bytes, width, height }: Attachment): Attachment {
  return { id, name, mediaType, bytes, width, height };
}
