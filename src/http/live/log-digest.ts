/**
 * The digest of a log: FNV-1a of 64 bits over the JSON of its events, each followed by a line feed.
 * It finds what was lost, doubled, changed or put out of order by accident; it is no protection
 * against deliberate changes.
 */

const [START_HIGH, START_LOW] = [0xcbf29ce4, 0x84222325];
/** The prime of FNV is 2^40 + this. */
const PRIME_LOW = 0x1b3;
const LINE_FEED = 10;

export class LogDigest {
  #high: number;
  #low: number;

  /** @param from a digest to continue; absent = the beginning of a log. */
  constructor(from?: string) {
    this.#high = from === undefined ? START_HIGH : Number.parseInt(from.slice(0, 8), 16);
    this.#low = from === undefined ? START_LOW : Number.parseInt(from.slice(8), 16);
  }

  /** @param json of the next event. */
  add(json: string): void {
    for (const byte of Buffer.from(json)) this.#addByte(byte);
    this.#addByte(LINE_FEED);
  }

  /** 16 hexadecimal digits. */
  toString(): string {
    return [this.#high, this.#low].map((half) => half.toString(16).padStart(8, "0")).join("");
  }

  #addByte(byte: number): void {
    const mixed = (this.#low ^ byte) >>> 0;
    const product = mixed * PRIME_LOW;
    this.#low = product >>> 0;
    this.#high = (Math.imul(this.#high, PRIME_LOW) + Math.floor(product / 2 ** 32) + (mixed << 8)) >>> 0;
  }
}
