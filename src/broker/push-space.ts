/**
 * Room on the disk for what workers push, of all tasks together.
 *
 * A1 A push holds room for what it receives next, and gets more in steps while it streams. The
 *    space held by all pushes plus the floor never exceeds the free space.
 * A2 Bytes of earlier steps are on the disk already and no longer count as free, because git writes
 *    a pack at once instead of collecting objects in memory (receive.unpackLimit).
 * A3 A push without room ends; nothing of it stays, and the worker sends it again later.
 */
export interface PushSpaceOptions {
  /** Bytes that are free on the disk of the task repositories. */
  readonly readFree: () => number;
  /** What pushes leave free, bytes. */
  readonly floorBytes: number;
  /** Called for each push that found no room. */
  readonly report: (repository: string) => void;
}

export interface HeldSpace {
  /**
   * To be called before the bytes are passed on. Never throws.
   * @returns false when the disk has no room for them; then the push has to end.
   */
  take(bytes: number): boolean;
  /** Idempotent. */
  release(): void;
}

/** How much a push holds ahead, bytes. */
const STEP = 4 * 2 ** 20;

export class PushSpace {
  readonly #options: PushSpaceOptions;
  /** Of all pushes together, bytes. */
  #held = 0;

  constructor(options: PushSpaceOptions) {
    this.#options = options;
  }

  /** @param size of the whole push, bytes; null = not known. */
  open(repository: string, size: number | null): HeldSpace {
    const step = Math.min(STEP, size ?? STEP);
    let [held, left] = [0, 0];
    const release = (): void => {
      this.#held -= held;
      [held, left] = [0, 0];
    };
    return {
      take: (bytes) => {
        if (bytes > left) {
          release();
          const wanted = Math.max(step, bytes);
          if (!this.#fits(wanted)) {
            this.#options.report(repository);
            return false;
          }
          this.#held += wanted;
          [held, left] = [wanted, wanted];
        }
        left -= bytes;
        return true;
      },
      release,
    };
  }

  #fits(bytes: number): boolean {
    const { readFree, floorBytes } = this.#options;
    try {
      return readFree() - floorBytes - this.#held >= bytes;
    } catch {
      // A failure to read the free space refuses no push: git itself reports a full disk.
      return true;
    }
  }
}
