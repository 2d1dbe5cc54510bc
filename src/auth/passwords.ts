/** Passwords: hashed with argon2id, compared in a time that does not depend on the account. */
import { randomBytes } from "node:crypto";
import PQueue from "p-queue";

/** OWASP's second profile for argon2id: 19 MiB, two passes, one lane. */
const ARGON2 = { memoryCost: 19_456, timeCost: 2, parallelism: 1 };

/** A start needs neither the native module nor a hash. */
const load = () => import("@node-rs/argon2");

/** A hash that no password is known for: what stands for the result is random. */
function createDummyHash(): string {
  const text = (bytes: number): string => randomBytes(bytes).toString("base64").replaceAll("=", "");
  const { memoryCost, timeCost, parallelism } = ARGON2;
  return `$argon2id$v=19$m=${memoryCost},t=${timeCost},p=${parallelism}$${text(16)}$${text(32)}`;
}

export class Passwords {
  /** Argon2 is expensive by design: a flood of logins must not occupy all threads. */
  readonly #hashing = new PQueue({ concurrency: 2 });
  /** Passwords of unknown accounts, and of accounts without one, are verified against this hash. */
  readonly #dummyHash = createDummyHash();

  hash(password: string): Promise<string> {
    return this.#hashing.add(async () => (await load()).hash(password.normalize("NFKC"), ARGON2));
  }

  /** @param stored null = there is no password: false, after the same time. */
  async matches(stored: string | null, password: string): Promise<boolean> {
    const known = stored ?? this.#dummyHash;
    const isRight = await this.#hashing.add(async () => (await load()).verify(known, password.normalize("NFKC")));
    return isRight && stored !== null;
  }
}
