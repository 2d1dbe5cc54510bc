/** The setup cache port: what the setup of a repository made, as an archive for later attempts. */
import type { GcMode, Garbage } from "../../lib/garbage.ts";

/** Archives of one person are never given to another. */
export interface SetupKey {
  readonly userId: string;
  /** Hexadecimal; stands for everything that decides what the setup makes. */
  readonly digest: string;
}

/** A disk image is made of an archive, for workspaces of one size (decision 072). */
export interface SetupDiskKey extends SetupKey {
  /** Hexadecimal; stands for the repository. */
  readonly repo: string;
  readonly sizeMb: number;
}

export interface OpenedSetup {
  readonly bytes: number;
  /** Epoch ms. */
  readonly savedAt: number;
  /** Leaving the iteration early closes the file. */
  readonly content: AsyncIterable<Uint8Array>;
  /** The workspace began as a copy of the disk image, so the content is empty. */
  readonly isOnDisk?: true;
}

export interface SetupSaved {
  readonly saved: boolean;
  /** Why not, for people; null when it was saved. */
  readonly reason: string | null;
}

export interface SaveOptions {
  /** Bytes that must not be in the archive, and what they are, for people. */
  readonly forbidden: readonly { readonly text: string; readonly what: string }[];
  /** Asked last, when all content is there: false = it is too late to save it. */
  readonly mayPublish: () => Promise<boolean>;
}

/**
 * An archive appears whole or not at all, and never changes. All archives together are bounded in
 * bytes: those that were used least recently make room.
 */
export interface SetupCaches {
  /** Null when there is none. Counts as a use. */
  open(key: SetupKey): Promise<OpenedSetup | null>;
  /**
   * Saves the content under the key, unless it has an archive or gets one at this moment. Rejects
   * only with the reason of the signal, or when the content breaks off; nothing is saved then.
   */
  save(
    key: SetupKey,
    content: AsyncIterable<Uint8Array>,
    options: SaveOptions,
    signal: AbortSignal,
  ): Promise<SetupSaved>;
  /** The path of the disk image; null when there is none, or no archive. Counts as a use. */
  disk(key: SetupDiskKey): Promise<string | null>;
  /** True when a disk image of the repository may exist. */
  hasDisks(key: Pick<SetupDiskKey, "userId" | "repo">): Promise<boolean>;
  /**
   * Creates the disk image if the archive exists and the image does not. `make` reads `archive` and
   * creates `disk`. Rejects when `make` rejects; no image is left then.
   */
  saveDisk(
    key: SetupDiskKey,
    make: (files: { readonly archive: string; readonly disk: string }) => Promise<void>,
  ): Promise<void>;
  /** Removes archives that are too old or exceed the limit, and remains of crashes. */
  collect(mode: GcMode): Promise<Garbage[]>;
  /** Removes all archives of a person. Idempotent. */
  removePerson(userId: string): Promise<void>;
}
