/**
 * Authentication: passwords, sessions, personal tokens and socket tickets. Only this module maps a
 * secret to a user.
 *
 * A1 All refusals have the same text and, for passwords, take the same time.
 * A2 A refresh token is good once, or until its successor arrived (tokens/refresh-tokens.ts).
 * A3 Roles and revocation are read from the store on every call: a JWT only identifies the session.
 */
import PQueue from "p-queue";
import type { Act } from "../core/ports/records/audit.ts";
import type { AccessToken, Accounts, KeySource, Role, Scope, Session, User, Identity } from "../core/ports/accounts.ts";
import { assertGoodPassword } from "./password-rules.ts";
import { Passwords } from "./passwords.ts";
import { createPersonalToken } from "./tokens/personal-tokens.ts";
import { RefreshTokens } from "./tokens/refresh-tokens.ts";
import { Tickets } from "./tokens/tickets.ts";
import { equalSecrets, isPersonalToken, sha256, shortDigest, TokenSigner } from "./tokens/signer.ts";
import { SlipwayError } from "../core/error.ts";
import { ALL_SCOPES } from "../core/roles.ts";
import type { Clock, Ids } from "../core/ports/runtime.ts";

const SECOND = 1_000;
/** How old a log-in may be for changes to how a person logs in. */
const FRESH_MS = 10 * 60 * SECOND;
const DAY = 24 * 60 * 60 * SECOND;

/** The built-in user behind the operator token of the data folder; it has no usable password. */
export const LOCAL_USER_ID = "user_00000000000000000000000000";

export interface AuthenticatedCaller extends Identity {
  /** Argument of `isSessionValid`. Null for the local operator, which cannot be revoked. */
  readonly sessionId: string | null;
  /** Epoch ms at which this authentication expires; null = never. */
  readonly expiresAt: number | null;
  readonly via: "session" | "token" | "local";
  /** What a personal token may do; null = everything that the person may. */
  readonly scopes: readonly Scope[] | null;
}

export interface TokenGrant {
  readonly accessToken: string;
  readonly refreshToken: string;
  /** Seconds until the access token expires. */
  readonly expiresIn: number;
  readonly user: User;
}

/** The client of a session, as its owner sees it in the list of sessions. */
export interface ClientInfo {
  readonly device: string;
  readonly address: string;
  /** The row of the log-in in the audit log. */
  readonly act?: Act;
}
const UNKNOWN_CLIENT: ClientInfo = { device: "", address: "" };

export interface NewUser {
  readonly email: string;
  readonly password: string;
  readonly role: Role;
}

export interface SessionOptions {
  readonly accounts: Accounts;
  readonly clock: Clock;
  readonly ids: Ids;
  /** Of at least 32 random bytes that survive a restart. */
  readonly keys: KeySource;
  /** The operator token of the data folder (a file with mode 0600); null = disabled. */
  readonly localToken: string | null;
  /** Accepted until the first admin exists (rule S7); null = setup is disabled. */
  readonly setupToken: string | null;
  readonly accessTtlMs?: number;
  readonly refreshGraceMs?: number;
  readonly refreshIdleMs?: number;
  readonly refreshAbsoluteMs?: number;
  readonly ticketTtlMs?: number;
}

export async function openSessions(options: SessionOptions): Promise<Sessions> {
  const { accounts, clock, localToken } = options;
  if (localToken !== null && (await accounts.user(LOCAL_USER_ID)) === null) {
    await accounts.createUser({
      id: LOCAL_USER_ID,
      email: "local@localhost",
      role: "admin",
      createdAt: clock.now(),
      disabledAt: null,
      passwordHash: null,
    });
  }
  return new Sessions(options);
}

export class Sessions {
  readonly #accounts: Accounts;
  readonly #clock: Clock;
  readonly #ids: Ids;
  readonly #signer: TokenSigner;
  readonly #options: Required<SessionOptions>;
  readonly passwords = new Passwords();
  readonly #tickets: Tickets<AuthenticatedCaller>;
  readonly #refreshTokens: RefreshTokens;
  readonly #setup = new PQueue({ concurrency: 1 });

  constructor(options: SessionOptions) {
    this.#options = {
      accessTtlMs: 10 * 60 * SECOND,
      refreshGraceMs: 30 * SECOND,
      refreshIdleMs: 30 * DAY,
      refreshAbsoluteMs: 90 * DAY,
      ticketTtlMs: 30 * SECOND,
      ...options,
    };
    this.#accounts = options.accounts;
    this.#clock = options.clock;
    this.#ids = options.ids;
    this.#signer = new TokenSigner({ keys: options.keys, accessTtlMs: this.#options.accessTtlMs });
    this.#refreshTokens = new RefreshTokens({
      ...this.#options,
      signer: this.#signer,
      graceMs: this.#options.refreshGraceMs,
    });
    this.#tickets = new Tickets(options.clock, this.#options.ticketTtlMs);
  }

  // ---------------------------------------------------------------- users

  /**
   * @param request names the request; sent again, it finds its user (rule R5).
   * @throws SlipwayError `conflict` when the e-mail is taken.
   */
  async createUser(user: NewUser, request: string | null = null, act?: Act): Promise<User> {
    assertGoodPassword(user.password, user.email, "password");
    const passwordHash = await this.passwords.hash(user.password);
    const row: User = {
      id: request === null ? this.#ids.next("user") : `user_${shortDigest(request)}`,
      email: user.email.toLowerCase(),
      role: user.role,
      createdAt: this.#clock.now(),
      disabledAt: null,
    };
    const made = request === null ? null : await this.#accounts.user(row.id);
    if (made?.email === row.email && made.role === row.role) return made;
    await this.#accounts.with(act).createUser({ ...row, passwordHash });
    return row;
  }

  /** Users that can log in. */
  async listUsers(): Promise<User[]> {
    return (await this.#accounts.users()).filter((user) => user.id !== LOCAL_USER_ID);
  }

  async needsSetup(): Promise<boolean> {
    return !(await this.listUsers()).some((user) => user.role === "admin");
  }

  /**
   * Creates the first admin and logs in. @throws SlipwayError `unauthenticated` for a wrong token,
   * and for the right one once an admin exists.
   */
  setUp(token: string, email: string, password: string, client = UNKNOWN_CLIENT): Promise<TokenGrant> {
    return this.#setup.add(async () => {
      const expected = this.#options.setupToken;
      const matches = expected !== null && equalSecrets(token, expected);
      if (!matches || !(await this.needsSetup()))
        throw new SlipwayError("unauthenticated", "The setup link is not valid or has already been used.");
      return this.begin(await this.createUser({ email, password, role: "admin" }), client);
    });
  }

  // ---------------------------------------------------------------- sessions

  /** @throws SlipwayError `invalid_credentials` when the e-mail or the password is wrong (A1). */
  async login(email: string, password: string, client: ClientInfo = UNKNOWN_CLIENT): Promise<TokenGrant> {
    const user = await this.#accounts.login(email.toLowerCase());
    const matches = await this.passwords.matches(user?.passwordHash ?? null, password);
    if (!matches || user === null || user.disabledAt !== null || user.id === LOCAL_USER_ID) {
      // Never the e-mail as it was typed: people enter passwords in that field by mistake.
      if (client.act !== undefined) client.act.entry = { ...client.act.entry, target: user?.id ?? null };
      throw new SlipwayError("invalid_credentials");
    }
    return this.begin(user, client);
  }

  /** True for a refresh token that was signed here, whatever its session has become. No look-up. */
  isIssued(text: string): boolean {
    return this.#signer.readRefresh(text) !== null;
  }

  /**
   * Rotates the refresh token (A2). @throws SlipwayError `unauthenticated` when the token is
   * unknown, expired or reused, or its session has ended.
   */
  async refresh(text: string, client = UNKNOWN_CLIENT): Promise<TokenGrant> {
    const token = this.#signer.readRefresh(text);
    if (token === null) throw unauthenticated();
    const session = await this.#accounts.session(token.sessionId);
    if (session === null || !this.isLive(session)) throw unauthenticated();
    if (sha256(text) !== session.tokenHash) {
      const next = await this.#refreshTokens.replay(token, session);
      if (next === null) throw unauthenticated();
      return this.#grant(session, next);
    }
    const next = await this.#refreshTokens.rotate(token, session, client.address);
    return next === null ? this.refresh(text, client) : this.#grant(session, next);
  }

  async logout(caller: AuthenticatedCaller, act?: Act): Promise<void> {
    if (caller.via !== "session" || caller.sessionId === null) {
      throw new SlipwayError(
        "forbidden",
        "Only a login session can log out. Revoke a personal token with DELETE /v1/tokens/{id}.",
      );
    }
    await this.#accounts.with(act).revokeSession(caller.sessionId, this.#clock.now());
  }

  /** The live session whose newest refresh token this is; it is not rotated. Null without one. */
  async sessionOf(text: string): Promise<Session | null> {
    const token = this.#signer.readRefresh(text);
    const session = token === null ? null : await this.#accounts.session(token.sessionId);
    if (session === null || !this.isLive(session) || sha256(text) !== session.tokenHash) return null;
    return (await this.#isActive(session.userId)) ? session : null;
  }

  /** Begins a session of a user who has proved who they are. */
  async begin(user: User, client: ClientInfo = UNKNOWN_CLIENT): Promise<TokenGrant> {
    const now = this.#clock.now();
    const id = this.#ids.next("sess");
    const token = this.#signer.firstRefresh(id);
    const session: Session = {
      id,
      userId: user.id,
      tokenHash: sha256(token),
      previousHash: null,
      rotatedAt: now,
      confirmedAt: now,
      createdAt: now,
      expiresAt: now + this.#options.refreshAbsoluteMs,
      revokedAt: null,
      device: client.device,
      address: client.address,
    };
    await this.#accounts.with(client.act).createSession(session);
    return this.#grant(session, token);
  }

  async #grant(session: Session, refreshToken: string): Promise<TokenGrant> {
    const user = await this.#accounts.user(session.userId);
    if (user === null || user.disabledAt !== null) throw unauthenticated();
    const now = this.#clock.now();
    const { accessTtlMs } = this.#options;
    const claims = { userId: user.id, sessionId: session.id, expiresAt: now + accessTtlMs };
    const accessToken = this.#signer.signAccess(claims, this.#ids.next("jti"), now);
    return { accessToken, refreshToken, expiresIn: Math.floor(accessTtlMs / SECOND), user };
  }

  isLive(session: Session): boolean {
    const now = this.#clock.now();
    return (
      session.revokedAt === null && session.expiresAt > now && now - session.rotatedAt < this.#options.refreshIdleMs
    );
  }

  /** True for a log-in of the last ten minutes. */
  isFresh(session: Session): boolean {
    return this.#clock.now() - session.createdAt < FRESH_MS;
  }

  /**
   * @throws SlipwayError `fresh_login_required` when the caller's log-in is older than ten minutes,
   * `forbidden` for a personal token.
   */
  async assertFresh(caller: AuthenticatedCaller): Promise<void> {
    if (caller.via === "local") return;
    if (caller.via === "token" || caller.sessionId === null)
      throw new SlipwayError("forbidden", "A personal token cannot change how a person logs in. Log in first.");
    const session = await this.#accounts.session(caller.sessionId);
    if (session === null || !this.isFresh(session)) throw new SlipwayError("fresh_login_required");
  }

  // ---------------------------------------------------------------- authentication

  /**
   * Like `authenticate`, for the live stream, which a token may only watch with the scope `read`.
   */
  async authenticateReader(bearer: string): Promise<AuthenticatedCaller> {
    const caller = await this.authenticate(bearer);
    if (caller.scopes?.includes("read") === false) throw new SlipwayError("forbidden");
    return caller;
  }

  /** The caller of `Authorization: Bearer <bearer>`. @throws SlipwayError `unauthenticated`. */
  async authenticate(bearer: string): Promise<AuthenticatedCaller> {
    const { localToken } = this.#options;
    if (localToken !== null && equalSecrets(bearer, localToken)) {
      return { userId: LOCAL_USER_ID, role: "admin", sessionId: null, expiresAt: null, via: "local", scopes: null };
    }
    return bearer.startsWith("slp_") ? this.#byToken(bearer) : this.#byAccess(bearer);
  }

  async #byAccess(bearer: string): Promise<AuthenticatedCaller> {
    const claims = this.#signer.readAccess(bearer, this.#clock.now());
    const session = claims && (await this.#accounts.session(claims.sessionId));
    if (!claims || !session || !this.isLive(session) || session.userId !== claims.userId) throw unauthenticated();
    this.#refreshTokens.confirm(session, claims.expiresAt - this.#options.accessTtlMs);
    return this.#caller(session.userId, {
      sessionId: session.id,
      expiresAt: claims.expiresAt,
      via: "session",
      scopes: null,
    });
  }

  async #byToken(bearer: string): Promise<AuthenticatedCaller> {
    const token = isPersonalToken(bearer) ? await this.#accounts.tokenByHash(sha256(bearer)) : null;
    const now = this.#clock.now();
    if (token === null || (token.expiresAt !== null && token.expiresAt <= now)) throw unauthenticated();
    if (token.lastUsedAt === null || now - token.lastUsedAt >= 60 * SECOND)
      await this.#accounts.touchToken(token.id, now);
    const scopes = token.scopes ?? ALL_SCOPES;
    const sessionId = `token:${token.hash}`;
    return this.#caller(token.userId, { sessionId, expiresAt: token.expiresAt, via: "token", scopes });
  }

  async #caller(userId: string, rest: Omit<AuthenticatedCaller, "userId" | "role">): Promise<AuthenticatedCaller> {
    const user = await this.#accounts.user(userId);
    if (user === null || user.disabledAt !== null) throw unauthenticated();
    return { userId: user.id, role: user.role, ...rest };
  }

  async #isActive(userId: string, role?: Role): Promise<boolean> {
    const user = await this.#accounts.user(userId);
    return user !== null && user.disabledAt === null && (role === undefined || user.role === role);
  }

  /**
   * False once the session is revoked or expired, the personal token is deleted or expired, or the
   * user is disabled or has another role. Its sockets must then be closed.
   */
  async isSessionValid(sessionId: string | null, role?: Role): Promise<boolean> {
    if (sessionId === null) return true;
    if (sessionId.startsWith("token:")) {
      const token = await this.#accounts.tokenByHash(sessionId.slice("token:".length));
      if (token === null || (token.expiresAt !== null && token.expiresAt <= this.#clock.now())) return false;
      return this.#isActive(token.userId, role);
    }
    const session = await this.#accounts.session(sessionId);
    return session !== null && this.isLive(session) && (await this.#isActive(session.userId, role));
  }

  // ---------------------------------------------------------------- personal tokens

  /**
   * @throws SlipwayError `forbidden` when the caller used a personal token.
   */
  async createToken(
    caller: AuthenticatedCaller,
    name: string,
    ttlMs: number | null,
    key: string | null = null,
    scopes?: readonly Scope[],
    act?: Act,
  ): Promise<{ row: AccessToken; token: string }> {
    if (caller.via === "token")
      throw new SlipwayError("forbidden", "A personal token cannot create another token. Log in first.");
    return createPersonalToken(
      { ...this.#options, accounts: this.#accounts.with(act) },
      { userId: caller.userId, name, ttlMs, key, scopes },
    );
  }

  // ---------------------------------------------------------------- tickets

  /** Issues a one-time secret for opening a socket. */
  issueTicket(caller: AuthenticatedCaller): { ticket: string; expiresIn: number } {
    const ticket = this.#tickets.issue(caller);
    return { ticket, expiresIn: Math.floor(this.#options.ticketTtlMs / SECOND) };
  }

  /**
   * Accepts a ticket once. @throws SlipwayError `unauthenticated` for a used, expired or unknown
   * ticket, and when the session has ended since.
   */
  async redeemTicket(ticket: string): Promise<AuthenticatedCaller> {
    const caller = this.#tickets.redeem(ticket);
    if (caller === null || !(await this.isSessionValid(caller.sessionId))) throw unauthenticated();
    return caller;
  }
}

function unauthenticated(): SlipwayError {
  return new SlipwayError("unauthenticated", "Log in, or send a valid token.");
}
