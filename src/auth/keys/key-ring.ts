/**
 * The data keys of an installation, unwrapped (decision 059).
 *
 * K1 The secret key only wraps data keys. Each use has one active key, which seals and signs, and
 *    retired ones, which open and verify what they made.
 * K2 A key is in use only once it is durable: what it made survives a crash.
 * K3 The keys that an installation had before there were data keys become its first ones, so
 *    nothing is sealed again and nobody logs in again.
 * K4 A rotation that was cut off goes on at the next start; until then retired keys open the rest.
 */
import { randomBytes } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import PQueue from "p-queue";
import type { Act } from "../../core/ports/records/audit.ts";
import {
  KEY_USES,
  SEALED_KINDS,
  type KeySource,
  type KeyStore,
  type KeyUse,
  type SealedRow,
  type StoredKey,
} from "../../core/ports/accounts.ts";
import { errorMessage, SlipwayError } from "../../core/error.ts";
import { noCrash, type Crashpoint } from "../../core/lib/runtime/crashpoint.ts";
import type { Clock, Log } from "../../core/ports/runtime.ts";
import { shortDigest } from "../tokens/signer.ts";
import {
  credentialContext,
  deriveSecret,
  deviceContext,
  keyIdOf,
  openVault,
  sealedWith,
  variableContext,
  type Vault,
} from "../vault.ts";

/** Unwrapped. */
export interface DataKey extends Omit<StoredKey, "wrapped"> {
  readonly bytes: Buffer;
}

export interface KeyRingOptions {
  readonly keys: KeyStore;
  /** The secret key. */
  readonly master: Buffer;
  /** Where the secret key is from, for people. */
  readonly masterName: string;
  readonly clock: Pick<Clock, "now">;
  readonly log: Pick<Log, "info" | "warn">;
  readonly crashpoint?: Crashpoint;
}

export interface ResealReport {
  readonly resealed: number;
  /** Rows that no key opens; they stay as they are. */
  readonly unreadable: number;
}

const DAY = 24 * 3_600_000;
/**
 * How long after its retirement a key is accepted. A session that is not used for 30 days ends, so
 * none of its tokens is older; a worker keeps its token as long as its attempt runs.
 */
const ACCEPTED_MS: Record<KeyUse, number> = {
  sealing: Infinity,
  sessions: 31 * DAY,
  attempts: Infinity,
  receipts: 31 * DAY,
};
/** Under these names the secret key gave the secrets of each use before there were data keys. */
const FIRST: Record<KeyUse, string> = {
  sealing: "vault",
  sessions: "sessions",
  attempts: "attempts",
  receipts: "receipts",
};
const FIRST_ROTATION = "first";
/** Rows of one transaction; requests run in between. */
const BATCH = 50;
const KEY_BYTES = 32;

const wrapContext = ({ id, use }: Pick<StoredKey, "id" | "use">): string => `data key ${use} ${id}`;

/** Wraps and unwraps data keys. */
export function openWrapper(master: Buffer): Vault {
  return openVault(deriveSecret(master, "wrap"));
}

/** The id under which wrapped keys name the secret key. */
export function wrapperIdOf(master: Buffer): string {
  return keyIdOf(deriveSecret(master, "wrap"));
}

/** The keys wrapped with another secret key. @throws SlipwayError as `unwrap`. */
export function rewrap(keys: readonly StoredKey[], from: Buffer, to: Buffer): { id: string; wrapped: string }[] {
  const [opener, sealer] = [openWrapper(from), openWrapper(to)];
  return keys.map((key) => {
    const text = opener.open(key.wrapped, wrapContext(key));
    return { id: key.id, wrapped: sealer.seal(text, wrapContext(key)) };
  });
}

/** The ids of the keys that the secret key does not open: they are damaged, or of another one. */
export function findUnopened(keys: readonly StoredKey[], master: Buffer): string[] {
  return keys.filter((key) => !isOpened(key, master)).map(({ id }) => id);
}

function isOpened(key: StoredKey, master: Buffer): boolean {
  try {
    openWrapper(master).open(key.wrapped, wrapContext(key));
    return true;
  } catch {
    return false;
  }
}

function contextOf(row: SealedRow): string {
  if (row.kind === "credential") return credentialContext(row.userId, row.host);
  if (row.kind === "device") return deviceContext(row.userId, row.id);
  return variableContext(row.userId, row.repo, row.name);
}

export class KeyRing {
  readonly #options: KeyRingOptions;
  readonly #wrapper: Vault;
  readonly #crashpoint: Crashpoint;
  #keys: readonly DataKey[] = [];
  #vaults = new Map<string, Vault>();
  /** One rotation at a time. */
  readonly #turn = new PQueue({ concurrency: 1 });
  #closed = false;

  /** Use `openKeyRing`. */
  constructor(options: KeyRingOptions) {
    this.#options = options;
    this.#wrapper = openWrapper(options.master);
    this.#crashpoint = options.crashpoint ?? noCrash;
  }

  /** Opens the stored keys and makes those that are missing (K3). */
  async load(): Promise<void> {
    const { keys } = this.#options;
    const stored = await keys.keys();
    const missing = KEY_USES.filter((use) => !stored.some((key) => key.use === use));
    if (missing.length > 0) {
      const made = missing.map((use) =>
        this.#wrap(
          use,
          FIRST_ROTATION,
          stored.length === 0 ? deriveSecret(this.#options.master, FIRST[use]) : randomBytes(KEY_BYTES),
        ),
      );
      await keys.addKeys(made);
    }
    this.#take(missing.length > 0 ? await keys.keys() : stored);
  }

  /** What seals and opens values at rest. */
  readonly vault: Vault = {
    seal: (plain, context) => this.#sealer().seal(plain, context),
    open: (sealed, context) => (this.#vaults.get(sealedWith(sealed)) ?? this.#sealer()).open(sealed, context),
  };

  source(use: KeyUse): KeySource {
    return () => {
      const now = this.#options.clock.now();
      return this.#keys.filter(
        (key) => key.use === use && (key.retiredAt === null || now - key.retiredAt < ACCEPTED_MS[use]),
      );
    };
  }

  /** Newest first. */
  list(): readonly Omit<DataKey, "bytes">[] {
    return this.#keys.map(({ bytes: _, ...key }) => key);
  }

  sealedCounts(): Promise<Record<string, number>> {
    return this.#options.keys.sealedCounts();
  }

  /**
   * Makes new keys of all uses, then seals again what the old ones sealed. Idempotent.
   * @param request names the call: the same one again makes no further keys.
   */
  async rotate(request: string, act?: Act): Promise<ResealReport> {
    return await this.#turn.add(async () => {
      const { keys, log } = this.#options;
      const rotation = shortDigest(request);
      const made = KEY_USES.map((use) => this.#wrap(use, rotation, randomBytes(KEY_BYTES)));
      const isNew = await keys.addKeys(made, act);
      this.#crashpoint("keys.added");
      this.#take(await keys.keys());
      if (isNew) log.info({ keys: made.map(({ id }) => id).join(", ") }, "the keys were rotated");
      return await this.#reseal();
    });
  }

  /** Seals again what retired keys have sealed: what a rotation that was cut off left (K4). */
  async resume(): Promise<ResealReport> {
    return await this.#turn.add(() => this.#reseal());
  }

  /** Ends a rotation after its batch. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#turn.onIdle();
  }

  #wrap(use: KeyUse, rotation: string, bytes: Buffer): StoredKey {
    const key = { id: keyIdOf(bytes), use, rotation, createdAt: this.#options.clock.now(), retiredAt: null };
    return { ...key, wrapped: this.#wrapper.seal(bytes.toString("base64"), wrapContext(key)) };
  }

  /** @throws SlipwayError `config_invalid` when the secret key is another one. */
  #take(stored: readonly StoredKey[]): void {
    this.#keys = stored.map(({ wrapped, ...key }) => ({ ...key, bytes: this.#unwrap(key, wrapped) }));
    const sealing = this.#keys.filter(({ use }) => use === "sealing");
    this.#vaults = new Map(sealing.map(({ id, bytes }) => [id, openVault(bytes)]));
  }

  #unwrap(key: Pick<StoredKey, "id" | "use">, wrapped: string): Buffer {
    try {
      return Buffer.from(this.#wrapper.open(wrapped, wrapContext(key)), "base64");
    } catch (cause) {
      const { masterName } = this.#options;
      const detail = `${masterName} does not open the data key ${key.id}. Restore the key, or the database from a backup.`;
      throw new SlipwayError("config_invalid", detail, { cause });
    }
  }

  #sealer(): Vault {
    const active = this.#keys.find(({ use, retiredAt }) => use === "sealing" && retiredAt === null);
    const vault = this.#vaults.get(active?.id ?? "");
    if (vault === undefined) throw new SlipwayError("internal", "There is no active key to seal with.");
    return vault;
  }

  async #reseal(): Promise<ResealReport> {
    let [resealed, unreadable] = [0, 0];
    for (const kind of SEALED_KINDS) {
      for (let after: number | null = 0; after !== null && !this.#closed;) {
        const active = this.source("sealing")()[0]?.id ?? "";
        const page = await this.#options.keys.sealedRows(kind, active, after, BATCH);
        const changes = page.rows.flatMap((row) => this.#sealAgain(row));
        unreadable += page.rows.length - changes.length;
        if (changes.length > 0) {
          resealed += await this.#options.keys.reseal(changes);
          this.#crashpoint("keys.resealed");
        }
        await setImmediate();
        after = page.next;
      }
    }
    if (resealed > 0) this.#options.log.info({ resealed, unreadable }, "values at rest were sealed with the new key");
    return { resealed, unreadable };
  }

  /** Nothing when the row cannot be opened: it was not readable before either. */
  #sealAgain(row: SealedRow): { row: SealedRow; sealed: string }[] {
    const context = contextOf(row);
    try {
      return [{ row, sealed: this.vault.seal(this.vault.open(row.sealed, context), context) }];
    } catch (error) {
      this.#options.log.warn(
        { user: row.userId, kind: row.kind, error: errorMessage(error) },
        "a value cannot be opened",
      );
      return [];
    }
  }
}

/** @throws SlipwayError `config_invalid` when the secret key does not open the stored keys. */
export async function openKeyRing(options: KeyRingOptions): Promise<KeyRing> {
  const ring = new KeyRing(options);
  await ring.load();
  return ring;
}
