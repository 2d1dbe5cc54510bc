/**
 * The accounts port: users, their sessions, personal tokens and git credentials. Secrets are stored
 * as digests or sealed, never in clear. Every time is epoch ms.
 */

import type { Act } from "./records/audit.ts";
import type { CredentialCheck, CredentialUse, VariablePhase } from "../protocol/repositories.ts";
import type { TaskState } from "../task.ts";

export type Role = "user" | "operator" | "admin";

export interface User {
  readonly id: string;
  readonly email: string;
  readonly role: Role;
  readonly createdAt: number;
  /** A disabled person cannot log in, and nothing of theirs authenticates. */
  readonly disabledAt: number | null;
}

/** Null = the person has no password and logs in with a provider. */
export interface PasswordHash {
  readonly passwordHash: string | null;
}

/** A person as a provider knows them. One identity belongs to one user. */
export interface ProviderIdentity {
  readonly id: string;
  readonly userId: string;
  readonly issuer: string;
  /** The provider's own id of the person: neither a name nor an e-mail, which can change hands. */
  readonly subject: string;
  /** For people to read. */
  readonly name: string;
  readonly createdAt: number;
  readonly lastUsedAt: number | null;
}

/** A public key with which a device of the person signs log-ins (WebAuthn). */
export interface Passkey {
  readonly id: string;
  readonly userId: string;
  /** Of the authenticator, base64url. One credential belongs to one user. */
  readonly credentialId: string;
  /** A COSE key, base64url. */
  readonly publicKey: string;
  /** Of the last signature; 0 = the authenticator does not count. */
  readonly counter: number;
  /** How browsers reach the authenticator. */
  readonly transports: readonly string[];
  /** The domain that it was made for; it signs for no other. */
  readonly rpId: string;
  readonly name: string;
  readonly createdAt: number;
  readonly lastUsedAt: number | null;
}

/** A one-time link that an admin made. Only the hash of its token is stored. */
export interface Link {
  readonly id: string;
  readonly hash: string;
  readonly kind: "invitation" | "password";
  /** Whose password; null for an invitation. */
  readonly userId: string | null;
  /** Of the invited person; null = they choose it. */
  readonly email: string | null;
  /** Of the invited person; null for a password. */
  readonly role: Role | null;
  /** The user who made it. */
  readonly madeBy: string;
  readonly createdAt: number;
  readonly expiresAt: number;
  readonly usedAt: number | null;
}

/** A chain of refresh tokens that starts with one login. Hashes are SHA-256 of the tokens. */
export interface Session {
  readonly id: string;
  readonly userId: string;
  readonly tokenHash: string;
  /**
   * The token that was replaced last, and when. Presented again within the grace period, or before
   * the successor is confirmed, it yields the same successor; after that, the session is revoked.
   */
  readonly previousHash: string | null;
  readonly rotatedAt: number;
  /** When the client first showed that it has the newest token; null = not since the rotation. */
  readonly confirmedAt: number | null;
  readonly createdAt: number;
  readonly expiresAt: number;
  readonly revokedAt: number | null;
  /** What the client said about itself at the log-in, and the address of its last refresh. */
  readonly device: string;
  readonly address: string;
}

/** What a personal token may do; each is independent of the others. */
export type Scope = "read" | "submit" | "operate";

export interface AccessToken {
  readonly id: string;
  readonly userId: string;
  readonly name: string;
  readonly hash: string;
  readonly createdAt: number;
  readonly expiresAt: number | null;
  readonly lastUsedAt: number | null;
  /** Null = a token from before there were scopes: all that it could do then. */
  readonly scopes: readonly Scope[] | null;
}

/** A git credential at rest. `sealed` is the token encrypted by src/auth/vault.ts. */
export interface Credential {
  readonly id: string;
  readonly userId: string;
  readonly host: string;
  readonly username: string | null;
  readonly sealed: string;
  readonly createdAt: number;
  /** What the host said when it was saved; null = it was saved before there were checks. */
  readonly check: CredentialCheck | null;
  /** When it was shown to the host last, and what for; null = not since it was saved. */
  readonly lastUsedAt: number | null;
  readonly lastUse: CredentialUse | null;
}

/** A value for the commands of a person's tasks on a repository. */
export interface StoredVariable {
  readonly userId: string;
  /** Canonical address without `.git`. */
  readonly repo: string;
  readonly name: string;
  /** The value, encrypted by src/auth/vault.ts. */
  readonly sealed: string;
  readonly secret: boolean;
  readonly phase: VariablePhase;
  readonly updatedAt: number;
}

/**
 * Contract in test/contract/accounts.ts.
 * - Writes are durable when they resolve, like those of Store, and visible to every later read.
 * - Reads of an unknown id, hash, e-mail or host return null or an empty list.
 * - `createUser`, `createSession`, `createToken`, `createIdentity`, `createPasskey`, `createLink`
 *   and `acceptInvitation` throw SlipwayError `conflict` when the id, hash, e-mail, identity or
 *   credential is taken; nothing is written then.
 * - `with(act)` is the same accounts, whose next write that changes something also adds the row of
 *   the act to the audit log, in the same transaction.
 * - Deletes are idempotent and return whether the row existed. They match only rows of `userId`.
 */
export interface Accounts {
  with(act: Act | undefined): Accounts;
  /** @param identity stored in the same transaction. */
  createUser(user: User & PasswordHash, identity?: ProviderIdentity): Promise<void>;
  user(id: string): Promise<User | null>;
  /** The user with this e-mail (compared in lower case) and the password hash. */
  login(email: string): Promise<(User & PasswordHash) | null>;
  /** Oldest first. */
  users(): Promise<User[]>;
  /**
   * Changes the named fields. Disabling also removes the person's passkeys. @returns whether the
   * user exists.
   */
  changeUser(id: string, change: UserChange): Promise<boolean>;
  /**
   * Begins a deletion (Q1 of PersonDeletions). From then on no read of accounts
   * returns anything of the person. @returns false, with nothing written, for an unknown user.
   */
  deletePerson(deletion: PersonDeletion): Promise<boolean>;

  createIdentity(identity: ProviderIdentity): Promise<void>;
  identity(issuer: string, subject: string): Promise<ProviderIdentity | null>;
  /** Oldest first. */
  identities(userId: string): Promise<ProviderIdentity[]>;
  /** Records a log-in; an earlier time than the stored one is ignored. */
  touchIdentity(id: string, at: number): Promise<void>;
  deleteIdentity(userId: string, id: string): Promise<boolean>;

  createPasskey(passkey: Passkey): Promise<void>;
  /** Oldest first. */
  passkeys(userId: string): Promise<Passkey[]>;
  passkeyFor(credentialId: string): Promise<Passkey | null>;
  /**
   * Records a signature. @returns false, without a change, when its counter is not above the stored
   * one and not both are 0, and for an unknown id.
   */
  usePasskey(id: string, counter: number, at: number): Promise<boolean>;
  changePasskey(userId: string, id: string, change: Pick<Passkey, "name">): Promise<boolean>;
  deletePasskey(userId: string, id: string): Promise<boolean>;

  createLink(link: Link): Promise<void>;
  linkByHash(hash: string): Promise<Link | null>;
  /** Not used, newest first; expired ones among them. */
  openLinks(): Promise<Link[]>;
  deleteLink(id: string): Promise<boolean>;
  /**
   * Creates the user and marks the link as used. @returns false, without a change, when the link is
   * not an invitation or was used.
   */
  acceptInvitation(id: string, at: number, user: User & PasswordHash): Promise<boolean>;
  /**
   * Sets the password of the link's user, ends their sessions and marks the link as used. @returns
   * false, without a change, when the link is not for a password or was used.
   */
  acceptPassword(id: string, at: number, passwordHash: string): Promise<boolean>;

  createSession(session: Session): Promise<void>;
  session(id: string): Promise<Session | null>;
  /** All sessions that are not revoked, the last used first; expired ones among them. */
  openSessions(userId: string): Promise<Session[]>;
  /** The session whose current token, or else whose previous token, has this hash. */
  sessionByHash(hash: string): Promise<Session | null>;
  /**
   * Replaces the current hash by compare-and-swap. @returns false, without a change, when the
   * current hash is not `fromHash` or the session is revoked.
   * @param address where the client is now; absent = where it was.
   */
  rotateSession(id: string, fromHash: string, toHash: string, at: number, address?: string): Promise<boolean>;
  /** The client has the token with this hash. The first time stays; another hash is ignored. */
  confirmSession(id: string, tokenHash: string, at: number): Promise<void>;
  /** Idempotent: the first revocation time stays. An unknown id is ignored. */
  revokeSession(id: string, at: number): Promise<void>;
  /** All sessions of the user but `except`. @returns how many were not revoked before. */
  revokeSessions(userId: string, at: number, except: string | null): Promise<number>;

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
  /** Records a use; an earlier time than the stored one is ignored. */
  touchCredential(userId: string, id: string, at: number, use: CredentialUse): Promise<void>;
  deleteCredential(userId: string, id: string): Promise<boolean>;

  /** Inserts, or replaces the person's variable of that name for the repository. */
  putVariable(variable: StoredVariable): Promise<void>;
  /** Sorted by repository and name. @param repo null = of all repositories. */
  variables(userId: string, repo: string | null): Promise<StoredVariable[]>;
  deleteVariable(userId: string, repo: string, name: string): Promise<boolean>;

  reply(address: ReplyAddress): Promise<Reply | null>;
  /**
   * Inserts or replaces. Also removes what `keep` excludes: answers of all users that are not newer
   * than `after` (epoch ms), and of this user all but the newest `perUser` (more when several have
   * the same time).
   */
  putReply(reply: Reply, keep: { readonly after: number; readonly perUser: number }): Promise<void>;
}

export interface UserChange {
  readonly role?: Role;
  readonly passwordHash?: string;
  readonly disabledAt?: number | null;
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

/** A deletion that has begun. Times are epoch ms. */
export interface PersonDeletion {
  readonly userId: string;
  /** Under which the books go on: nothing leads from it to the person. */
  readonly alias: string;
  readonly at: number;
  /** Who deletes; the person themselves, or an admin. */
  readonly by: string;
}

/** The fields of a task that the deletion of its owner needs. */
export interface PersonTask {
  readonly id: string;
  readonly userId: string;
  readonly threadId: string;
  readonly state: TaskState;
}

/**
 * The deletion of people, a part of the store; contract in test/contract/store/person-deletions.ts.
 *
 * Q1 A deletion begins with one durable row, in the transaction that removes the account with all
 *    that authenticates as it, the keys and values that it kept, its devices and its settings
 *    (`Accounts.deletePerson`).
 * Q2 What else names the person is removed in parts, each a write of its own, after their tasks. A
 *    deletion that was broken off stays in `personDeletions`, and each part may run again.
 * Q3 Usage and rows of deleted tasks stay, under the alias.
 */
export interface PersonDeletions {
  /** Deletions that have begun and not ended, the oldest first. */
  personDeletions(): Promise<PersonDeletion[]>;
  /** Tasks of the person whose deletion has not begun, the newest first, also unreadable ones. */
  personTasks(userId: string, limit: number): Promise<PersonTask[]>;
  /**
   * Removes some of what names the person (Q2, Q3). Idempotent. @returns `more`: call it again;
   * `tasks`: only tasks are left; `done`: nothing is left, and the deletion has ended.
   */
  purgePerson(deletion: PersonDeletion): Promise<PersonPurge>;
}
export type PersonPurge = "more" | "tasks" | "done";

// ---------------------------------------------------------------- keys

/**
 * - `sealing`: credentials, variables, addresses of ntfy and webhooks, and kept answers.
 * - `sessions`: access and refresh tokens.
 * - `attempts`: tokens of workers.
 * - `receipts`: what devices say about notifications.
 */
export const KEY_USES = ["sealing", "sessions", "attempts", "receipts"] as const;
export type KeyUse = (typeof KEY_USES)[number];

export interface StoredKey {
  /** Of the unwrapped key (src/auth/vault.ts). */
  readonly id: string;
  readonly use: KeyUse;
  /** Names the call that made it. */
  readonly rotation: string;
  readonly createdAt: number;
  /** Null = the active key of its use, of which there is one. */
  readonly retiredAt: number | null;
  /** Sealed with the secret key. */
  readonly wrapped: string;
}

/** The keys of one use that are accepted now, the active one first. */
export type KeySource = () => readonly {
  readonly id: string;
  readonly bytes: Uint8Array;
  readonly retiredAt: number | null;
}[];

/** A value at rest, with what its context is made of. */
export type SealedRow = { readonly sealed: string } & (
  | { readonly kind: "credential"; readonly userId: string; readonly host: string }
  | { readonly kind: "variable"; readonly userId: string; readonly repo: string; readonly name: string }
  | { readonly kind: "device"; readonly userId: string; readonly id: string }
);
export const SEALED_KINDS = ["credential", "variable", "device"] as const satisfies readonly SealedRow["kind"][];

export interface SealedPage {
  readonly rows: readonly SealedRow[];
  /** The argument `after` of the next page; null at the end. */
  readonly next: number | null;
}

/**
 * The key store port: data keys, wrapped by the installation's secret key, and the rows that are
 * sealed with one of them. Contract in test/contract/people/keys.ts. Writes are durable when
 * they resolve.
 */
export interface KeyStore {
  /** Newest first; of one time, in the order of KEY_USES. */
  keys(): Promise<StoredKey[]>;
  /**
   * Adds active keys, and retires those that were active for the same uses at `createdAt`.
   * @returns false, without a change, when the rotation of the keys has made keys before.
   */
  addKeys(keys: readonly StoredKey[], act?: Act): Promise<boolean>;
  /** Replaces what is wrapped, all or nothing. @returns false when a key is unknown. */
  rewrapKeys(keys: readonly Pick<StoredKey, "id" | "wrapped">[], act?: Act): Promise<boolean>;
  /** How many values each key has sealed, by its id. */
  sealedCounts(): Promise<Record<string, number>>;
  /** A page of the rows of a kind that another key than `keyId` has sealed. */
  sealedRows(kind: SealedRow["kind"], keyId: string, after: number, limit: number): Promise<SealedPage>;
  /** Replaces the sealed text of rows that still have the one they came with. @returns how many. */
  reseal(changes: readonly { readonly row: SealedRow; readonly sealed: string }[]): Promise<number>;
  /** Removes the keys and everything that is sealed: the secret key is lost. */
  forgetKeys(act?: Act): Promise<void>;
}
