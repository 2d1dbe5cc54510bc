/** Passwords: hashed with argon2id, compared in a time that does not depend on the account. */
import { randomBytes } from "node:crypto";
import { hash, verify } from "@node-rs/argon2";
import PQueue from "p-queue";

/** OWASP's second profile for argon2id: 19 MiB, two passes, one lane. */
const ARGON2 = { memoryCost: 19_456, timeCost: 2, parallelism: 1 };

export class Passwords {
  /** Argon2 is expensive by design: a flood of logins must not occupy all threads. */
  readonly #hashing = new PQueue({ concurrency: 2 });
  /** Passwords of unknown accounts, and of accounts without one, are verified against this hash. */
  readonly #dummyHash: Promise<string>;

  constructor() {
    // Not awaited: the start must not wait for a hash that only failed logins need.
    this.#dummyHash = hash(randomBytes(32), ARGON2);
  }

  hash(password: string): Promise<string> {
    return this.#hashing.add(() => hash(password.normalize("NFKC"), ARGON2));
  }

  /** @param stored null = there is no password: false, after the same time. */
  async matches(stored: string | null, password: string): Promise<boolean> {
    const known = stored ?? (await this.#dummyHash);
    const isRight = await this.#hashing.add(() => verify(known, password.normalize("NFKC")));
    return isRight && stored !== null;
  }
}
