/**
 * Saves files of the server on the device.
 *
 * Where the browser lets a page write a file (Chromium at a desk), a stream goes straight to the
 * place that the person chose. Elsewhere the browser collects it and saves it at its end. A stream
 * that breaks off leaves no file that looks complete.
 */

interface PickingBrowser {
  showSaveFilePicker?(options: { suggestedName: string }): Promise<FileSystemFileHandle>;
}

/** Resolves when the whole stream is saved. */
export type SaveStream = (stream: ReadableStream<Uint8Array>) => Promise<void>;

export function saveBlob(name: string, blob: Blob): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/**
 * Asks where, if the browser does; must be called during a tap.
 *
 * @returns null when the person closed the question.
 */
export async function chooseFile(name: string): Promise<SaveStream | null> {
  const browser = globalThis as PickingBrowser;
  if (browser.showSaveFilePicker !== undefined)
    try {
      const file = await browser.showSaveFilePicker({ suggestedName: name });
      return async (stream) => await stream.pipeTo(await file.createWritable());
    } catch (thrown) {
      if (thrown instanceof DOMException && thrown.name === "AbortError") return null;
      // Forbidden here: the browser collects it.
    }
  const headers = { "content-type": "application/gzip" };
  return async (stream) => saveBlob(name, await new Response(stream, { headers }).blob());
}
