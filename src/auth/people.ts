/**
 * What people change about their own account, and admins about others'.
 *
 * P1 There is always an admin who can log in: the last one is neither disabled nor deleted nor
 *    given another role.
 * P2 A change of the password, a link for one, and a disabled account end the sessions that it
 *    could have been stolen for; sockets follow within seconds (websocket-server.ts, L1).
 * P3 The token of a link is good once and until it expires; only its digest is stored.
 * P4 A deletion begins with one write: from then on the person does not exist, and nothing of
 *    theirs authenticates. The coordinator removes what they had.
 */
import { randomBytes } from "node:crypto";
import PQueue from "p-queue";
import type { Act } from "../core/ports/records/audit.ts";
import type { Accounts, Link, Role, Session, User } from "../core/ports/accounts.ts";
import { SlipwayError } from "../core/error.ts";
import type { Clock, Ids, Log } from "../core/ports/runtime.ts";
import { assertGoodPassword } from "./password-rules.ts";
import type { Passkeys } from "./passkeys/passkeys.ts";
import type { GitGrants } from "./providers/git-grants.ts";
import type { AuthenticatedCaller, ClientInfo, Sessions, TokenGrant } from "./sessions.ts";
import { sha256 } from "./tokens/signer.ts";

const HOUR = 60 * 60_000;
const PASSWORD_LINK_MS = 24 * HOUR;
/** Links that are open at once. */
const MAX_LINKS = 1_000;

export interface PeopleDeps {
  readonly accounts: Accounts;
  readonly sessions: Pick<Sessions, "assertFresh" | "isLive" | "listUsers" | "begin" | "passwords">;
  readonly passkeys: Pick<Passkeys, "usable">;
  readonly grants: Pick<GitGrants, "end" | "deleteCredential">;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Pick<Log, "info" | "warn">;
}

/** A new link; its token is shown once. */
export interface MadeLink {
  readonly link: Link;
  readonly token: string;
}

export class People {
  readonly #deps: PeopleDeps;
  /**
   * Two admins must not disable each other at once (P1), and nobody removes the last two ways to
   * log in at once.
   */
  readonly #changes = new PQueue({ concurrency: 1 });

  constructor(deps: PeopleDeps) {
    this.#deps = deps;
  }

  // ---------------------------------------------------------------- one's own account

  /** The live sessions of a user, the last used first. */
  async sessions(userId: string): Promise<Session[]> {
    const { accounts, sessions } = this.#deps;
    return (await accounts.openSessions(userId)).filter((session) => sessions.isLive(session));
  }

  /** @returns false when the user has no such session. */
  async endSession(userId: string, id: string, act?: Act): Promise<boolean> {
    const session = await this.#deps.accounts.session(id);
    if (session === null || session.userId !== userId) return false;
    await this.#deps.accounts.with(act).revokeSession(id, this.#deps.clock.now());
    return true;
  }

  /** @param except the session that stays; null = none. */
  endSessions(userId: string, except: string | null, act?: Act): Promise<number> {
    return this.#deps.accounts.with(act).revokeSessions(userId, this.#deps.clock.now(), except);
  }

  /**
   * Changes the caller's password and ends their other sessions. A person without one sets the
   * first with a log-in of the last ten minutes.
   * @throws SlipwayError `invalid_credentials` when `current` is wrong.
   */
  async changePassword(caller: AuthenticatedCaller, current: string | null, next: string, act?: Act): Promise<void> {
    const { accounts, sessions } = this.#deps;
    const user = await this.#user(caller.userId);
    const stored = (await accounts.login(user.email))?.passwordHash ?? null;
    if (stored === null) await sessions.assertFresh(caller);
    else if (!(await sessions.passwords.matches(stored, current ?? "")))
      throw new SlipwayError("invalid_credentials", "The current password is wrong.");
    assertGoodPassword(next, user.email, "newPassword");
    await accounts.with(act).changeUser(user.id, { passwordHash: await sessions.passwords.hash(next) });
    await this.endSessions(user.id, caller.sessionId);
    this.#deps.log.info({ userId: user.id }, "a password was changed");
  }

  /**
   * Removes an identity of the caller, and takes back what was granted for git.
   * @throws SlipwayError `not_found`, `fresh_login_required`, and `conflict` when it is the only
   * way to log in.
   */
  unlink(caller: AuthenticatedCaller, id: string, act?: Act): Promise<void> {
    return this.#changes.add(async () => {
      const { accounts, sessions } = this.#deps;
      await sessions.assertFresh(caller);
      const identities = await accounts.identities(caller.userId);
      await this.#assertOtherWay(caller.userId, identities, id);
      const issuer = identities.find((row) => row.id === id)?.issuer;
      if (issuer !== undefined) await this.#deps.grants.end(caller.userId, issuer);
      await accounts.with(act).deleteIdentity(caller.userId, id);
    });
  }

  /** @returns false when the user has no such git credential. One that was granted is revoked. */
  deleteCredential(userId: string, id: string, act?: Act): Promise<boolean> {
    return this.#deps.grants.deleteCredential(userId, id, act);
  }

  /** Removes a passkey of the caller. @throws as `unlink`. */
  removePasskey(caller: AuthenticatedCaller, id: string, act?: Act): Promise<void> {
    return this.#changes.add(async () => {
      const { accounts, sessions } = this.#deps;
      await sessions.assertFresh(caller);
      await this.#assertOtherWay(caller.userId, await accounts.passkeys(caller.userId), id);
      await accounts.with(act).deletePasskey(caller.userId, id);
    });
  }

  /** @param rows the person's, of the kind that `id` is removed from. */
  async #assertOtherWay(userId: string, rows: readonly { readonly id: string }[], id: string): Promise<void> {
    const { accounts, passkeys } = this.#deps;
    if (!rows.some((row) => row.id === id)) throw new SlipwayError("not_found");
    const login = await accounts.login((await this.#user(userId)).email);
    const ways = [...(await accounts.identities(userId)), ...(await passkeys.usable(userId))];
    if (login?.passwordHash === null && !ways.some((way) => way.id !== id))
      throw new SlipwayError("conflict", "This is the only way to log in. Set a password first.");
  }

  // ---------------------------------------------------------------- others' accounts

  setRole(by: string, userId: string, role: Role, act?: Act): Promise<User> {
    return this.#changes.add(async () => {
      const user = await this.#user(userId);
      if (role !== "admin") await this.#assertOtherAdmin(user);
      await this.#deps.accounts.with(act).changeUser(userId, { role });
      this.#deps.log.info({ by, userId, role }, "a role was changed");
      return { ...user, role };
    });
  }

  /**
   * Disabling ends every session and removes the passkeys; tokens work again when the person is
   * enabled.
   */
  setDisabled(by: string, userId: string, isDisabled: boolean, act?: Act): Promise<User> {
    return this.#changes.add(async () => {
      const user = await this.#user(userId);
      if (isDisabled) await this.#assertOtherAdmin(user);
      const disabledAt = isDisabled ? (user.disabledAt ?? this.#deps.clock.now()) : null;
      await this.#deps.accounts.with(act).changeUser(userId, { disabledAt });
      if (isDisabled) await this.endSessions(userId, null);
      this.#deps.log.info({ by, userId }, isDisabled ? "a person was disabled" : "a person was enabled");
      return { ...user, disabledAt };
    });
  }

  /**
   * Deletes a person (P4). @param mayBegin rejects when it may not begin.
   * @throws SlipwayError `not_found`, and `conflict` for the last admin.
   */
  remove(by: string, userId: string, mayBegin: () => Promise<void>, act?: Act): Promise<void> {
    return this.#changes.add(async () => {
      const { accounts, clock, ids, log } = this.#deps;
      await this.#assertOtherAdmin(await this.#user(userId));
      await mayBegin();
      const deletion = { userId, alias: ids.next("gone"), at: clock.now(), by };
      if (!(await accounts.with(act).deletePerson(deletion))) throw new SlipwayError("not_found");
      log.info({ by, userId }, "the deletion of a person has begun");
    });
  }

  async #assertOtherAdmin({ id }: User): Promise<void> {
    const users = await this.#deps.sessions.listUsers();
    const isAdmin = (user: User): boolean => user.role === "admin" && user.disabledAt === null;
    if (users.some((user) => user.id === id && isAdmin(user)) && !users.some((user) => user.id !== id && isAdmin(user)))
      throw new SlipwayError("conflict", "This is the last admin. Make somebody else an admin first.");
  }

  /** @throws SlipwayError `not_found`, also for the built-in user. */
  async #user(userId: string): Promise<User> {
    const user = (await this.#deps.sessions.listUsers()).find(({ id }) => id === userId);
    if (user === undefined) throw new SlipwayError("not_found");
    return user;
  }

  // ---------------------------------------------------------------- links

  /** @param email null = the invited person chooses it. */
  async invite(by: string, email: string | null, role: Role, ttlMs: number, act?: Act): Promise<MadeLink> {
    if (email !== null && (await this.#deps.accounts.login(email)) !== null)
      throw new SlipwayError("conflict", "A user with this e-mail already exists.");
    return this.#makeLink({ kind: "invitation", userId: null, email, role, madeBy: by }, ttlMs, act);
  }

  /** A link with which a person sets a new password; it does not need the old one. */
  async makePasswordLink(by: string, userId: string, act?: Act): Promise<MadeLink> {
    const user = await this.#user(userId);
    const link = { kind: "password", userId, email: user.email, role: null, madeBy: by } as const;
    return this.#makeLink(link, PASSWORD_LINK_MS, act);
  }

  async #makeLink(
    fields: Pick<Link, "kind" | "userId" | "email" | "role" | "madeBy">,
    ttlMs: number,
    act?: Act,
  ): Promise<MadeLink> {
    const { accounts, clock, ids, log } = this.#deps;
    const now = clock.now();
    const open = await accounts.openLinks();
    for (const { id } of open.filter((one) => one.expiresAt <= now)) await accounts.deleteLink(id);
    if (open.length >= MAX_LINKS) throw new SlipwayError("conflict", "Too many links are open. Withdraw some first.");
    const token = `lnk_${randomBytes(32).toString("base64url")}`;
    const times = { createdAt: now, expiresAt: now + ttlMs, usedAt: null };
    const link: Link = { id: ids.next("lnk"), hash: sha256(token), ...fields, ...times };
    await accounts.with(act).createLink(link);
    log.info({ by: fields.madeBy, kind: fields.kind, role: fields.role, linkId: link.id }, "a one-time link was made");
    return { link, token };
  }

  /** Links that can be used, newest first. */
  async openLinks(): Promise<Link[]> {
    const now = this.#deps.clock.now();
    return (await this.#deps.accounts.openLinks()).filter(({ expiresAt }) => expiresAt > now);
  }

  /** @throws SlipwayError `expired` for a link that is unknown, used, withdrawn or too old. */
  async findLink(token: string): Promise<Link> {
    const link = await this.#deps.accounts.linkByHash(sha256(token));
    if (link === null || link.usedAt !== null || link.expiresAt <= this.#deps.clock.now()) throw linkExpired();
    return link;
  }

  /**
   * Uses a link: makes the invited person's account, or sets the password, and logs in.
   * @param email of an invitation that names none.
   */
  async acceptLink(token: string, email: string | null, password: string, client: ClientInfo): Promise<TokenGrant> {
    const { accounts, sessions, clock, ids } = this.#deps;
    const link = await this.findLink(token);
    const address = (link.email ?? email)?.toLowerCase();
    if (address === undefined) throw missingEmail();
    assertGoodPassword(password, address, "password");
    const passwordHash = await sessions.passwords.hash(password);
    const at = clock.now();
    if (link.kind === "password") {
      const { act } = client;
      if (act !== undefined) act.entry = { ...act.entry, actor: link.userId, target: link.userId };
      if (!(await accounts.with(act).acceptPassword(link.id, at, passwordHash))) throw linkExpired();
      return sessions.begin(await this.#user(link.userId ?? ""), client);
    }
    const role = link.role ?? "user";
    const user: User = { id: ids.next("user"), email: address, role, createdAt: at, disabledAt: null };
    if (!(await accounts.with(client.act).acceptInvitation(link.id, at, { ...user, passwordHash })))
      throw linkExpired();
    return sessions.begin(user, client);
  }
}

function linkExpired(): SlipwayError {
  return new SlipwayError("expired", "This link was used, withdrawn, or has expired. Ask an admin for a new one.");
}

function missingEmail(): SlipwayError {
  return new SlipwayError("invalid_request", "The body is not valid: see errors.", {
    errors: [{ path: "email", message: "is needed: this invitation names none" }],
  });
}
