/** Pictures in the page, loaded with the session. */
import { client } from "../client.ts";
import { session } from "../session.ts";

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
