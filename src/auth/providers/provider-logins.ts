/**
 * Log-ins with providers, from the first redirect to a session (decision 047).
 *
 * O1 The secrets of a log-in (state, nonce, PKCE verifier) are sealed in a cookie of the browser
 *    that began it, for one provider, ten minutes and one callback.
 * O2 A person is found by the provider's issuer and their subject there, never by name or e-mail.
 *    An e-mail that an account has already refuses the log-in: its owner links the provider
 *    instead.
 * O3 Only a verified e-mail that the allow-list admits makes an account; its role is `user`.
 * O4 Linking needs a log-in of the last ten minutes, in the browser that asks.
 */
import { randomBytes } from "node:crypto";
import { z } from "zod";
import type { Accounts, ProviderIdentity, Session, User } from "../../core/ports/accounts.ts";
import { errorMessage, SlipwayError } from "../../core/error.ts";
import type { LoginProblem, LoginProvider } from "../../core/protocol/people.ts";
import type { Clock, Ids, Log } from "../../core/ports/runtime.ts";
import type { ClientInfo, Sessions, TokenGrant } from "../sessions.ts";
import { sha256 } from "../tokens/signer.ts";
import type { Vault } from "../vault.ts";
import type { ProviderPerson } from "./allow-list.ts";
import type { GitGrants } from "./git-grants.ts";
import { LoginRefused, type Provider } from "./provider.ts";

const MINUTE = 60_000;
const FLOW_MS = 10 * MINUTE;
/** Callbacks that are remembered as used. Beyond that only the provider refuses a used code. */
const MAX_USED = 10_000;
const CONTEXT = "log-in with a provider";

const flowSchema = z.strictObject({
  provider: z.string(),
  state: z.string(),
  nonce: z.string(),
  verifier: z.string(),
  next: z.string(),
  link: z.strictObject({ userId: z.string(), sessionId: z.string() }).nullable(),
  withGit: z.boolean(),
  /** Epoch ms. */
  until: z.number(),
});
type Flow = z.infer<typeof flowSchema>;

export interface ProviderLoginsDeps {
  readonly providers: readonly Provider[];
  readonly accounts: Accounts;
  readonly sessions: Pick<Sessions, "begin" | "isFresh" | "isSessionValid">;
  readonly grants: Pick<GitGrants, "save">;
  readonly vault: Vault;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Pick<Log, "info" | "warn">;
  /**
   * The configured origin under which browsers reach the server; never one that a request names.
   */
  readonly baseUrl: () => string;
}

/** `next` is a path of the app. */
export type LoginOutcome =
  | { readonly kind: "session"; readonly grant: TokenGrant; readonly next: string }
  | { readonly kind: "linked"; readonly next: string }
  | { readonly kind: "refused"; readonly problem: LoginProblem; readonly isLink: boolean };

export type LoginStart =
  | { readonly kind: "redirect"; readonly location: string; readonly cookie: string }
  | { readonly kind: "refused"; readonly problem: LoginProblem };

export class ProviderLogins {
  readonly #deps: ProviderLoginsDeps;
  /** Digests of used states, until when each could be used again. */
  readonly #used = new Map<string, number>();

  constructor(deps: ProviderLoginsDeps) {
    this.#deps = deps;
  }

  /** The configured origin, for links that are given away. */
  get baseUrl(): string {
    return this.#deps.baseUrl();
  }

  list(): LoginProvider[] {
    return this.#deps.providers.map(({ id, name, git }) => {
      return { id, name, startUrl: `${this.baseUrl}/v1/auth/oauth/${id}/start`, gitHost: git?.host ?? null };
    });
  }

  /** The id of the provider of an identity; null when it is not configured any more. */
  providerOf({ issuer }: Pick<ProviderIdentity, "issuer">): string | null {
    return this.#deps.providers.find((provider) => provider.issuer === issuer)?.id ?? null;
  }

  /**
   * @param link the session whose person links the provider; null = a log-in.
   * @param git the person who links it also grants a git credential for its host.
   * @throws SlipwayError `not_found` for an unknown provider.
   */
  async start(id: string, next: string, link: Session | null, git = false): Promise<LoginStart> {
    const provider = this.#provider(id);
    const withGit = git && link !== null && provider.git !== null;
    if (link !== null && !this.#deps.sessions.isFresh(link))
      return { kind: "refused", problem: "fresh_login_required" };
    const secret = (): string => randomBytes(32).toString("base64url");
    const flow: Flow = {
      provider: id,
      state: secret(),
      nonce: secret(),
      verifier: secret(),
      next,
      link: link === null ? null : { userId: link.userId, sessionId: link.id },
      withGit,
      until: this.#deps.clock.now() + FLOW_MS,
    };
    try {
      const location = await provider.authorize({ ...flow, redirectUri: this.#redirectUri(id) });
      return { kind: "redirect", location: location.href, cookie: this.#seal(flow) };
    } catch (error) {
      this.#deps.log.warn({ provider: id, error: errorMessage(error) }, "a provider cannot be reached");
      return { kind: "refused", problem: "provider_failed" };
    }
  }

  /**
   * @param query what the provider added to the callback's address.
   * @param cookie what `start` gave this browser; null without one.
   * @throws SlipwayError `not_found` for an unknown provider.
   */
  async finish(
    id: string,
    query: Readonly<Record<string, string>>,
    cookie: string | null,
    client: ClientInfo,
  ): Promise<LoginOutcome> {
    const provider = this.#provider(id);
    const flow = cookie === null ? null : this.#open(cookie);
    const isLink = flow !== null && flow.link !== null;
    try {
      if (flow === null || flow.provider !== id || query["state"] !== flow.state || !this.#use(flow))
        throw new LoginRefused("expired", "the callback does not belong to a log-in of this browser");
      const redirectUri = this.#redirectUri(id);
      const callback = new URL(`${redirectUri}?${new URLSearchParams(query).toString()}`);
      const { person, grant } = await provider.identify(callback, { ...flow, redirectUri });
      if (flow.link !== null) await this.#link(provider, person, flow.link);
      if (flow.link !== null && provider.git !== null && grant !== null)
        await this.#deps.grants.save(flow.link.userId, provider.git, grant, person.name);
      if (flow.link !== null) return { kind: "linked", next: flow.next };
      const user = await this.#enter(provider, person);
      return { kind: "session", grant: await this.#deps.sessions.begin(user, client), next: flow.next };
    } catch (error) {
      const problem = error instanceof LoginRefused ? error.problem : "provider_failed";
      this.#deps.log.warn(
        { provider: id, problem, address: client.address, error: errorMessage(error) },
        "a log-in with a provider was refused",
      );
      return { kind: "refused", problem, isLink };
    }
  }

  // ---------------------------------------------------------------- people

  async #enter(provider: Provider, person: ProviderPerson): Promise<User> {
    const { accounts, clock } = this.#deps;
    const known = await accounts.identity(provider.issuer, person.subject);
    if (known === null) return this.#signUp(provider, person);
    const user = await accounts.user(known.userId);
    if (user === null || user.disabledAt !== null) throw new LoginRefused("disabled", "the account is disabled");
    // A person who has left the organisation is refused, although an identity exists.
    if (!provider.allow.isEmpty && !provider.allow.allows(person))
      throw new LoginRefused("not_allowed", `${person.name} is not on the allow-list`);
    await accounts.touchIdentity(known.id, clock.now());
    return user;
  }

  async #signUp(provider: Provider, person: ProviderPerson): Promise<User> {
    const { accounts, clock, ids, log } = this.#deps;
    const { email } = person;
    if (!provider.allow.allows(person))
      throw new LoginRefused(
        email === null ? "unverified_email" : "not_allowed",
        `${person.name} is not on the allow-list`,
      );
    if (email === null) throw new LoginRefused("unverified_email", `${person.name} has no verified e-mail`);
    if ((await accounts.login(email)) !== null) throw new LoginRefused("email_taken", "the e-mail has an account");
    const now = clock.now();
    const user: User = { id: ids.next("user"), email, role: "user", createdAt: now, disabledAt: null };
    const identity = { ...this.#identity(provider, person, user.id), lastUsedAt: now };
    try {
      await accounts.createUser({ ...user, passwordHash: null }, identity);
    } catch (error) {
      const isTaken = error instanceof SlipwayError && error.code === "conflict";
      throw isTaken ? new LoginRefused("email_taken", "the e-mail has an account", error) : error;
    }
    log.info({ provider: provider.id, userId: user.id }, "a log-in with a provider made an account");
    return user;
  }

  async #link(provider: Provider, person: ProviderPerson, link: NonNullable<Flow["link"]>): Promise<void> {
    const { accounts, sessions, log } = this.#deps;
    if (!(await sessions.isSessionValid(link.sessionId)))
      throw new LoginRefused("expired", "the session that asked has ended");
    if (!provider.allow.isEmpty && !provider.allow.allows(person))
      throw new LoginRefused("not_allowed", `${person.name} is not on the allow-list`);
    const known = await accounts.identity(provider.issuer, person.subject);
    if (known?.userId === link.userId) return;
    if (known !== null) throw new LoginRefused("linked_elsewhere", "the identity belongs to another account");
    try {
      await accounts.createIdentity(this.#identity(provider, person, link.userId));
    } catch (error) {
      const isTaken = error instanceof SlipwayError && error.code === "conflict";
      throw isTaken ? new LoginRefused("linked_elsewhere", "the identity belongs to another account", error) : error;
    }
    log.info({ provider: provider.id, userId: link.userId }, "a provider was linked to an account");
  }

  #identity(provider: Provider, { subject, name }: ProviderPerson, userId: string): ProviderIdentity {
    const { clock, ids } = this.#deps;
    const row = { id: ids.next("idn"), userId, issuer: provider.issuer, subject, name };
    return { ...row, createdAt: clock.now(), lastUsedAt: null };
  }

  // ---------------------------------------------------------------- the flow

  #provider(id: string): Provider {
    const found = this.#deps.providers.find((provider) => provider.id === id);
    if (found === undefined) throw new SlipwayError("not_found", "This server accepts no log-ins of this provider.");
    return found;
  }

  #redirectUri(id: string): string {
    return `${this.baseUrl}/v1/auth/oauth/${id}/callback`;
  }

  #seal(flow: Flow): string {
    return Buffer.from(this.#deps.vault.seal(JSON.stringify(flow), CONTEXT)).toString("base64url");
  }

  /** Null for a cookie that was not sealed here, or has expired. */
  #open(cookie: string): Flow | null {
    try {
      const sealed = Buffer.from(cookie, "base64url").toString();
      const flow = flowSchema.parse(JSON.parse(this.#deps.vault.open(sealed, CONTEXT)));
      return flow.until > this.#deps.clock.now() ? flow : null;
    } catch {
      return null;
    }
  }

  /** False when the state was used before (O1). */
  #use({ state, until }: Flow): boolean {
    const key = sha256(state);
    if (this.#used.has(key)) return false;
    const now = this.#deps.clock.now();
    for (const [used, end] of this.#used) if (end <= now || this.#used.size >= MAX_USED) this.#used.delete(used);
    this.#used.set(key, until);
    return true;
  }
}
