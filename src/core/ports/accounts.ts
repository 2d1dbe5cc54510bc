/**
 * People, their sessions, tokens and git credentials: the second half of the store, as a port of
 * its own.
 */

export type Role = "user" | "operator" | "admin";

export interface User {
  readonly id: string;
  readonly email: string;
  readonly role: Role;
  readonly createdAt: number;
}

/** A chain of refresh tokens that began with one login. Only digests are stored. */
export interface Session {
  readonly id: string;
  readonly userId: string;
  readonly tokenHash: string;
  /**
   * The token before this one, and when it was rotated: replay within the grace gives the same
   * successor.
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

/**
 * A git credential at rest: `sealed` is AES-256-GCM (src/auth/vault.ts), never the token itself.
 */
export interface Credential {
  readonly id: string;
  readonly userId: string;
  readonly host: string;
  readonly username: string | null;
  readonly sealed: string;
  readonly createdAt: number;
}

/**
 * Who may do what. Same durability as Store. Inserts with a taken e-mail or (user, host) throw
 * `conflict`. Deletes are idempotent and say whether something was there.
 */
export interface Accounts {
  createUser(user: User & { readonly passwordHash: string }): Promise<void>;
  user(id: string): Promise<User | null>;
  /** E-mails are compared in lower case. */
  login(email: string): Promise<(User & { readonly passwordHash: string }) | null>;
  users(): Promise<User[]>;

  createSession(session: Session): Promise<void>;
  session(id: string): Promise<Session | null>;
  sessionByHash(hash: string): Promise<Session | null>;
  /** Compare-and-swap on the current hash; false when another rotation won. */
  rotateSession(id: string, fromHash: string, toHash: string, at: number): Promise<boolean>;
  revokeSession(id: string, at: number): Promise<void>;

  createToken(token: AccessToken): Promise<void>;
  tokenByHash(hash: string): Promise<AccessToken | null>;
  tokens(userId: string): Promise<AccessToken[]>;
  touchToken(id: string, at: number): Promise<void>;
  deleteToken(userId: string, id: string): Promise<boolean>;

  /** Replaces the user's credential for the same host. */
  putCredential(credential: Credential): Promise<void>;
  credentials(userId: string): Promise<Credential[]>;
  credentialFor(userId: string, host: string): Promise<Credential | null>;
  deleteCredential(userId: string, id: string): Promise<boolean>;
}

/**
 * Who asks. Every verb shows a task only to its owner, operators and admins; to others it is
 * `not_found` (rule S2).
 */
export interface Identity {
  readonly userId: string;
  readonly role: Role;
}
