/**
 * The accounts port: users, their sessions, personal tokens and git credentials. Secrets are stored
 * as digests or sealed, never in clear. Every time is epoch ms.
 */

export type Role = "user" | "operator" | "admin";

export interface User {
  readonly id: string;
  readonly email: string;
  readonly role: Role;
  readonly createdAt: number;
}

/** A chain of refresh tokens that starts with one login. Hashes are SHA-256 of the tokens. */
export interface Session {
  readonly id: string;
  readonly userId: string;
  readonly tokenHash: string;
  /**
   * The token that was replaced last, and when. Presented again within the grace period it yields
   * the same successor; after it, the session is revoked.
   */
  readonly previousHash: string | null;
  readonly rotatedAt: number;
  readonly expiresAt: number;
  readonly revokedAt: number | null;
}

export interface AccessToken {
  readonly id: string;
  readonly userId: string;
  readonly name: string;
  readonly hash: string;
  readonly createdAt: number;
  readonly expiresAt: number | null;
  readonly lastUsedAt: number | null;
}

/** A git credential at rest. `sealed` is the token encrypted by src/auth/vault.ts. */
export interface Credential {
  readonly id: string;
  readonly userId: string;
  readonly host: string;
  readonly username: string | null;
  readonly sealed: string;
  readonly createdAt: number;
}

/**
 * Contract in test/contract/accounts.ts.
 * - Writes are durable when they resolve, like those of Store, and visible to every later read.
 * - Reads of an unknown id, hash, e-mail or host return null or an empty list.
 * - `createUser`, `createSession`, `createToken` throw SlipwayError `conflict` when the id, hash or
 *   e-mail is taken; nothing is written then.
 * - Deletes are idempotent and return whether the row existed. They match only rows of `userId`.
 */
export interface Accounts {
  createUser(user: User & { readonly passwordHash: string }): Promise<void>;
  user(id: string): Promise<User | null>;
  /** The user with this e-mail (compared in lower case) and the password hash. */
  login(email: string): Promise<(User & { readonly passwordHash: string }) | null>;
  /** Oldest first. */
  users(): Promise<User[]>;

  createSession(session: Session): Promise<void>;
  session(id: string): Promise<Session | null>;
  /** The session whose current token, or else whose previous token, has this hash. */
  sessionByHash(hash: string): Promise<Session | null>;
  /**
   * Replaces the current hash by compare-and-swap. @returns false, without a change, when the
   * current hash is not `fromHash` or the session is revoked.
   */
  rotateSession(id: string, fromHash: string, toHash: string, at: number): Promise<boolean>;
  /** Idempotent: the first revocation time stays. An unknown id is ignored. */
  revokeSession(id: string, at: number): Promise<void>;

  createToken(token: AccessToken): Promise<void>;
  tokenByHash(hash: string): Promise<AccessToken | null>;
  /** Oldest first. */
  tokens(userId: string): Promise<AccessToken[]>;
  /** Records a use; an earlier time than the stored one is ignored. */
  touchToken(id: string, at: number): Promise<void>;
  deleteToken(userId: string, id: string): Promise<boolean>;

  /** Inserts, or replaces the user's credential for the same host. */
  putCredential(credential: Credential): Promise<void>;
  /** Sorted by host. */
  credentials(userId: string): Promise<Credential[]>;
  credentialFor(userId: string, host: string): Promise<Credential | null>;
  deleteCredential(userId: string, id: string): Promise<boolean>;

  reply(address: ReplyAddress): Promise<Reply | null>;
  /**
   * Inserts or replaces. Also removes what `keep` excludes: answers of all users that are not newer
   * than `after` (epoch ms), and of this user all but the newest `perUser` (more when several have
   * the same time).
   */
  putReply(reply: Reply, keep: { readonly after: number; readonly perUser: number }): Promise<void>;
}

/** Names a request that came with an Idempotency-Key. `endpoint` is its method and path. */
export interface ReplyAddress {
  readonly userId: string;
  readonly endpoint: string;
  readonly key: string;
}

/** The answer to such a request, sealed. */
export interface Reply extends ReplyAddress {
  readonly at: number;
  readonly sealed: string;
}

/**
 * The authenticated caller of a service. A task is visible to its owner, operators and admins only;
 * for everyone else it is `not_found` (rule S2).
 */
export interface Identity {
  readonly userId: string;
  readonly role: Role;
}
