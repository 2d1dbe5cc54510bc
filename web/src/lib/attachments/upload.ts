/** Sends a file; pictures are made smaller before. Loaded when the first file is chosen. */
import type { Attachment } from "../../../../src/core/values/attachment.ts";
import { client, readConfig } from "../client.ts";
import { formatBytes } from "../format.ts";

/** Longest side that a model makes use of, pixels. */
const SIDE = 2_000;
/** Larger pictures are not shown to models. */
const BYTES = 3_500_000;
const QUALITY = 0.88;

/**
 * Prepares a picture for upload. A photo is redrawn, which removes the place and time of the shot;
 * other pictures are redrawn only if they are too large. Files that the browser cannot draw are
 * sent unchanged.
 */
async function shrinkPicture(file: File): Promise<{ name: string; content: Blob }> {
  const asIs = { name: file.name || "file", content: file };
  if (!/^image\/(?:jpeg|png|webp|heic|heif)$/.test(file.type)) return asIs;
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
  if (bitmap === null) return asIs;
  try {
    const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
    const isPhoto = !/png|webp/.test(file.type);
    if (!isPhoto && scale === 1 && file.size <= BYTES) return asIs;
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    canvas.getContext("2d")?.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    const type = isPhoto ? "image/jpeg" : file.type;
    const content = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, type, QUALITY));
    if (content === null) return asIs;
    return { name: isPhoto ? file.name.replace(/\.\w+$/, ".jpg") : file.name, content };
  } finally {
    bitmap.close();
  }
}

/** @throws Error when the server would not take it, before a byte is sent. */
export async function upload(file: File): Promise<Attachment> {
  // Without the limits the server decides.
  const config = await readConfig().catch(() => null);
  if (config !== null && config.attachments === null) throw new Error("This server takes no attachments.");
  const { name, content } = await shrinkPicture(file);
  const most = config?.attachments?.fileBytes ?? Infinity;
  if (content.size > most)
    throw new Error(`It has ${formatBytes(content.size)}, and at most ${formatBytes(most)} can be attached.`);
  return client.attachments.upload(name, content);
}
