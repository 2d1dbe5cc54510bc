/**
 * Tar archives of a few small files in memory (ustar), the same bytes for the same files: what the
 * engine takes and gives.
 */

const BLOCK = 512;

export interface Entry {
  readonly name: string;
  /** Null = a folder. */
  readonly content: Buffer | null;
  readonly mode?: number;
  /** Number of user and group. */
  readonly owner?: number;
}

const octal = (value: number, digits: number): string => `${value.toString(8).padStart(digits, "0")}\0`;

function header({ name, content, mode, owner = 0 }: Entry): Buffer {
  if (Buffer.byteLength(name) > 100) throw new RangeError(`the name ${name} is too long for this archive`);
  const block = Buffer.alloc(BLOCK);
  block.write(name, 0);
  block.write(octal(mode ?? (content === null ? 0o755 : 0o644), 7), 100);
  block.write(octal(owner, 7), 108);
  block.write(octal(owner, 7), 116);
  block.write(octal(content?.length ?? 0, 11), 124);
  block.write(octal(0, 11), 136);
  block.write("        ", 148);
  block.write(content === null ? "5" : "0", 156);
  block.write("ustar\u000000", 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${octal(sum, 6)} `, 148);
  return block;
}

export function tar(entries: readonly Entry[]): Buffer {
  const blocks = entries.flatMap((entry) => {
    const content = entry.content ?? Buffer.alloc(0);
    return [header(entry), content, Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)]);
}

/**
 * The bytes of an archive whose first entry is a plain file; null when it is anything else, or
 * larger than `maxBytes`.
 */
export async function firstFile(archive: AsyncIterable<Uint8Array>, maxBytes: number): Promise<Buffer | null> {
  const parts: Buffer[] = [];
  let length = 0;
  let size: number | null = null;
  for await (const piece of archive) {
    parts.push(Buffer.from(piece));
    length += piece.length;
    if (length < BLOCK) continue;
    if (size === null) {
      const head = Buffer.concat(parts).subarray(0, BLOCK);
      size = Number.parseInt(head.toString("latin1", 124, 136), 8);
      if (head.toString("latin1", 156, 157) !== "0" || !(size >= 0 && size <= maxBytes)) return null;
    }
    if (length >= BLOCK + size) return Buffer.concat(parts).subarray(BLOCK, BLOCK + size);
  }
  return null;
}
