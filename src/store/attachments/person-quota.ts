/**
 * How many bytes the attachments of one person take, those that are arriving included.
 *
 * Q1 A small file counts as a block: many of them take inodes instead of bytes.
 */
import { SlipwayError } from "../../core/error.ts";
import type { StoredAttachment } from "../../core/ports/files/attachments.ts";

/** The least that a file counts, bytes. */
const BLOCK_BYTES = 32 * 1024;
/** Uploads of one person at once. */
const AT_ONCE = 4;

interface Account {
  /** By id, bytes. */
  readonly kept: Map<string, number>;
  arriving: number;
  arrivingBytes: number;
}

const MB = 2 ** 20;
const sizeOf = (bytes: number): number => Math.max(BLOCK_BYTES, bytes);

export class PersonQuota {
  readonly #most: number;
  readonly #readAll: () => Promise<readonly StoredAttachment[]>;
  #accounts: Promise<Map<string, Account>> | null = null;

  /** @param readAll what is kept; read once, before the first upload. */
  constructor(most: number, readAll: () => Promise<readonly StoredAttachment[]>) {
    this.#most = most;
    this.#readAll = readAll;
  }

  /**
   * Reserves room. @returns gives it back; idempotent.
   * @throws SlipwayError `attachments_full`, `rate_limited`.
   */
  async reserve(userId: string, bytes: number): Promise<() => void> {
    const account = getAccount(await this.#load(), userId);
    if (account.arriving >= AT_ONCE)
      throw new SlipwayError("rate_limited", `At most ${AT_ONCE} uploads at once. Wait for one of them to end.`);
    const used = [...account.kept.values()].reduce((sum, size) => sum + size, account.arrivingBytes);
    if (used + sizeOf(bytes) > this.#most)
      throw new SlipwayError(
        "attachments_full",
        `Your attachments take ${Math.ceil(used / MB)} of ${Math.floor(this.#most / MB)} MB. ` +
          "Room comes back as old tasks are removed; attach a smaller file, or put it into the repository.",
      );
    account.arriving += 1;
    account.arrivingBytes += sizeOf(bytes);
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      account.arriving -= 1;
      account.arrivingBytes -= sizeOf(bytes);
    };
  }

  async bytesOf(userId: string): Promise<number> {
    const account = (await this.#load()).get(userId);
    return account === undefined ? 0 : [...account.kept.values()].reduce((sum, size) => sum + size, 0);
  }

  /** Idempotent. */
  async add(userId: string, id: string, bytes: number): Promise<void> {
    getAccount(await this.#load(), userId).kept.set(id, sizeOf(bytes));
  }

  /** Idempotent. Nothing to do before the first upload. */
  async remove(userId: string, id: string): Promise<void> {
    (await this.#accounts)?.get(userId)?.kept.delete(id);
  }

  #load(): Promise<Map<string, Account>> {
    this.#accounts ??= this.#readAll().then(
      (all) => {
        const accounts = new Map<string, Account>();
        for (const { userId, id, bytes } of all) getAccount(accounts, userId).kept.set(id, sizeOf(bytes));
        return accounts;
      },
      (error: unknown) => {
        this.#accounts = null;
        throw error;
      },
    );
    return this.#accounts;
  }
}

function getAccount(accounts: Map<string, Account>, userId: string): Account {
  let account = accounts.get(userId);
  if (account === undefined) {
    account = { kept: new Map(), arriving: 0, arrivingBytes: 0 };
    accounts.set(userId, account);
  }
  return account;
}
