/** Writes a file that arrives to the disk, and measures it on the way. */
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { SlipwayError } from "../../core/error.ts";
import { detectKind, HEAD_BYTES, type FileKind } from "../../core/lib/media-type.ts";

export interface ReceivedFile {
  readonly bytes: number;
  readonly sha256: string;
  readonly kind: FileKind;
}

/**
 * Resolves when the file is durable. @param most bytes.
 * @throws SlipwayError `payload_too_large`, or the error of `content`. The caller removes the file.
 */
export async function receiveFile(
  content: AsyncIterable<Uint8Array>,
  path: string,
  most: number,
): Promise<ReceivedFile> {
  const hash = createHash("sha256");
  const head: Uint8Array[] = [];
  let bytes = 0;
  const file = await open(path, "wx", 0o600);
  try {
    for await (const chunk of content) {
      if (bytes < HEAD_BYTES) head.push(chunk.subarray(0, HEAD_BYTES - bytes));
      bytes += chunk.length;
      if (bytes > most)
        throw new SlipwayError("payload_too_large", `The file is larger than ${most} bytes. Attach a smaller one.`);
      hash.update(chunk);
      await file.appendFile(chunk);
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return { bytes, sha256: hash.digest("hex"), kind: detectKind(Buffer.concat(head)) };
}
