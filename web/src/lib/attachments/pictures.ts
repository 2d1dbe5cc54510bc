/** Pictures in the page: made smaller before they are sent, and loaded with the session. */
import { client } from "../client.ts";
import { session } from "../session.ts";

/** Longest side that a model makes use of, pixels. */
const SIDE = 2_000;
/** Larger pictures are not shown to models. */
const BYTES = 3_500_000;
const QUALITY = 0.88;

/**
 * The file as it is sent. A photo is drawn anew, which leaves out where and when it was taken;
 * other pictures only where they are too large. What the browser cannot draw is sent as it is.
 */
export async function shrinkPicture(file: File): Promise<{ name: string; content: Blob }> {
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

/** Addresses of pictures that were loaded, by id; they live as long as the session in this page. */
const loaded = new Map<string, Promise<string>>();

session.subscribe(() => {
  if (session.get().kind !== "none") return;
  for (const address of loaded.values()) void address.then(URL.revokeObjectURL, () => undefined);
  loaded.clear();
});

/** The address of a picture for `img`. It needs the session, so the page loads it itself. */
export function loadPicture(id: string): Promise<string> {
  const known = loaded.get(id);
  if (known !== undefined) return known;
  const loading = loadBlob(id).then((blob) => URL.createObjectURL(blob));
  loaded.set(id, loading);
  loading.catch(() => loaded.delete(id));
  return loading;
}

export async function loadBlob(id: string): Promise<Blob> {
  return await new Response(await client.attachments.content(id)).blob();
}
