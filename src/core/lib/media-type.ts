/**
 * The media type of a file by its bytes. Names and headers decide nothing: they are the sender's.
 *
 * M1 A page or an SVG is text: no type that a browser runs is ever returned.
 */

export interface FileKind {
  readonly mediaType: string;
  /**
   * Pixels; null when the file is not a picture, or its size is not within the bytes that were
   * read.
   */
  readonly width: number | null;
  readonly height: number | null;
}

/** Bytes of a file's head that decide. A JPEG may have long metadata before its size. */
export const HEAD_BYTES = 256 * 1024;

type Size = Pick<FileKind, "width" | "height">;
const NO_SIZE: Size = { width: null, height: null };

const ascii = (head: Buffer, from: number, to: number): string => head.toString("latin1", from, to);

const PICTURES: readonly (readonly [type: string, begins: (head: Buffer) => boolean, size: (head: Buffer) => Size])[] =
  [
    ["image/png", (head) => ascii(head, 0, 8) === "\x89PNG\r\n\x1a\n", sizeOfPng],
    ["image/jpeg", (head) => ascii(head, 0, 3) === "\xff\xd8\xff", sizeOfJpeg],
    ["image/gif", (head) => /^GIF8[79]a/.test(ascii(head, 0, 6)), sizeOfGif],
    ["image/webp", (head) => ascii(head, 0, 4) === "RIFF" && ascii(head, 8, 12) === "WEBP", sizeOfWebp],
  ];

const OTHERS: readonly (readonly [type: string, begin: string])[] = [
  ["application/pdf", "%PDF-"],
  ["application/zip", "PK\x03\x04"],
  ["application/zip", "PK\x05\x06"],
  ["application/gzip", "\x1f\x8b"],
  ["application/x-xz", "\xfd7zXZ\0"],
  ["application/zstd", "\x28\xb5\x2f\xfd"],
  ["application/x-7z-compressed", "7z\xbc\xaf\x27\x1c"],
  ["application/vnd.sqlite3", "SQLite format 3\0"],
];

/** @param head the first HEAD_BYTES of the file, or all of a shorter one. */
export function detectKind(head: Buffer): FileKind {
  const picture = PICTURES.find(([, begins]) => begins(head));
  if (picture !== undefined) return { mediaType: picture[0], ...toSize(picture[2](head)) };
  const begin = ascii(head, 0, 16);
  const other = OTHERS.find(([, magic]) => begin.startsWith(magic));
  const mediaType = other?.[0] ?? (isText(head) ? "text/plain" : "application/octet-stream");
  return { mediaType, ...NO_SIZE };
}

const toSize = ({ width, height }: Size): Size =>
  width === null || height === null || width === 0 || height === 0 ? NO_SIZE : { width, height };

function sizeOfPng(head: Buffer): Size {
  if (head.length < 24 || ascii(head, 12, 16) !== "IHDR") return NO_SIZE;
  return { width: head.readUInt32BE(16), height: head.readUInt32BE(20) };
}

function sizeOfGif(head: Buffer): Size {
  return head.length < 10 ? NO_SIZE : { width: head.readUInt16LE(6), height: head.readUInt16LE(8) };
}

/** Walks the segments to the start of the frame, which holds the size. */
function sizeOfJpeg(head: Buffer): Size {
  for (let at = 2; at + 9 < head.length;) {
    if (head[at] !== 0xff) return NO_SIZE;
    const marker = head[at + 1] ?? 0;
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) return { width: head.readUInt16BE(at + 7), height: head.readUInt16BE(at + 5) };
    // Padding is one byte; other segments hold their length.
    at += marker === 0xff ? 1 : 2 + head.readUInt16BE(at + 2);
  }
  return NO_SIZE;
}

function sizeOfWebp(head: Buffer): Size {
  if (head.length < 30) return NO_SIZE;
  switch (ascii(head, 12, 16)) {
    case "VP8X":
      return { width: 1 + head.readUIntLE(24, 3), height: 1 + head.readUIntLE(27, 3) };
    case "VP8L": {
      const bits = head.readUInt32LE(21);
      return { width: 1 + (bits & 0x3fff), height: 1 + ((bits >>> 14) & 0x3fff) };
    }
    case "VP8 ":
      return { width: head.readUInt16LE(26) & 0x3fff, height: head.readUInt16LE(28) & 0x3fff };
    default:
      return NO_SIZE;
  }
}

/** UTF-8 without control characters other than white space and escapes of terminals. */
function isText(head: Buffer): boolean {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(head, { stream: head.length === HEAD_BYTES });
    // oxlint-disable-next-line no-control-regex
    return !/[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]/.test(text);
  } catch {
    return false;
  }
}
