/**
 * Passkeys: a device of the person signs a challenge, and no password is typed (decision 066).
 *
 * K1 A passkey is made by a person with a log-in of the last ten minutes, in that session. The
 *    device must verify the person, and stores the passkey under their id, so a log-in needs no
 *    user name.
 * K2 A signature counts for the configured domain and origin, for one challenge, and once.
 * K3 A counter that does not grow means that the passkey was copied: the log-in is refused, and the
 *    audit log says why. Authenticators that do not count always say 0.
 * K4 An unauthenticated client gets the same refusal with the same text for every cause.
 */
import type {
  AuthenticationResponseJSON,
  PublicKeyCredentialCreationOptionsJSON,
  PublicKeyCredentialRequestOptionsJSON,
  RegistrationResponseJSON,
} from "@simplewebauthn/server";
import type { Act } from "../../core/ports/records/audit.ts";
import type { Accounts, Passkey, User } from "../../core/ports/accounts.ts";
import { errorMessage, SlipwayError } from "../../core/error.ts";
import type { Clock, Ids, Log } from "../../core/ports/runtime.ts";
import type { AuthenticatedCaller, ClientInfo, Sessions, TokenGrant } from "../sessions.ts";
import type { Vault } from "../vault.ts";
import { CHALLENGE_MS, Challenges } from "./challenges.ts";
import { relyingPartyOf, type RelyingParty } from "./relying-party.ts";

/** Passkeys of a person. */
const MOST = 20;
const LOGIN = "log-in";

export interface PasskeysDeps {
  readonly accounts: Accounts;
  readonly sessions: Pick<Sessions, "assertFresh" | "begin">;
  readonly vault: Vault;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Pick<Log, "info" | "warn">;
  /** As in ProviderLogins. */
  readonly baseUrl: () => string;
}

/** What the device is asked for; the ticket comes back with its answer. */
export interface PasskeyStart<Options> {
  readonly ticket: string;
  readonly options: Options;
  /** Seconds. */
  readonly expiresIn: number;
}

/** Why a log-in was refused, in the audit log only (K4). */
type Reason = "unknown" | "not_proved" | "disabled" | "counter";

/** An installation without passkeys does not load their library. */
const load = () => import("@simplewebauthn/server");

export class Passkeys {
  readonly #deps: PasskeysDeps;
  readonly #challenges: Challenges;

  constructor(deps: PasskeysDeps) {
    this.#deps = deps;
    this.#challenges = new Challenges(deps.vault, deps.clock);
  }

  /** Null when there can be no passkeys at the configured address. */
  get relyingParty(): RelyingParty | null {
    return relyingPartyOf(this.#deps.baseUrl());
  }

  /** Those that still log their person in: made for the domain of today. */
  async usable(userId: string): Promise<Passkey[]> {
    const rpId = this.relyingParty?.rpId;
    return (await this.#deps.accounts.passkeys(userId)).filter((passkey) => passkey.rpId === rpId);
  }

  // ---------------------------------------------------------------- making one

  /**
   * @throws SlipwayError `fresh_login_required`, `forbidden` without a session,
   * `passkeys_unavailable`, `conflict` when there are too many.
   */
  async startRegistration(caller: AuthenticatedCaller): Promise<PasskeyStart<PublicKeyCredentialCreationOptionsJSON>> {
    const { rpId } = this.#party();
    await this.#deps.sessions.assertFresh(caller);
    const user = await this.#owner(caller);
    const own = await this.#roomFor(user.id);
    const { ticket, bytes } = this.#challenges.issue(purposeOf(caller));
    const { generateRegistrationOptions } = await load();
    const options = await generateRegistrationOptions({
      rpName: "Slipway",
      rpID: rpId,
      userName: user.email,
      userID: new Uint8Array(Buffer.from(user.id)),
      challenge: bytes,
      timeout: CHALLENGE_MS,
      attestationType: "none",
      excludeCredentials: own.map(({ credentialId, transports }) => ({
        id: credentialId,
        transports: [...transports],
      })),
      authenticatorSelection: { residentKey: "required", requireResidentKey: true, userVerification: "required" },
    });
    return { ticket, options, expiresIn: CHALLENGE_MS / 1_000 };
  }

  /**
   * @throws SlipwayError `expired` when the ticket is not one of this session or was used,
   * `passkey_refused` when the device did not prove it, `conflict` when it is known already.
   */
  async register(
    caller: AuthenticatedCaller,
    { ticket, response, name }: { ticket: string; response: RegistrationResponseJSON; name: string },
    act?: Act,
  ): Promise<Passkey> {
    const { accounts, clock, ids, log } = this.#deps;
    const party = this.#party();
    const challenge = this.#challenges.open(ticket, purposeOf(caller));
    const { verifyRegistrationResponse } = await load();
    const { registrationInfo: made } = await verifyRegistrationResponse({
      response,
      expectedChallenge: challenge.challenge,
      expectedOrigin: party.origin,
      expectedRPID: party.rpId,
      requireUserVerification: true,
    }).catch((error: unknown) => {
      log.warn({ userId: caller.userId, error: errorMessage(error) }, "a passkey was not proved");
      throw refused();
    });
    if (made === undefined) throw refused();
    this.#challenges.use(challenge);
    await this.#roomFor(caller.userId);
    const passkey: Passkey = {
      id: ids.next("pky"),
      userId: caller.userId,
      credentialId: made.credential.id,
      publicKey: Buffer.from(made.credential.publicKey).toString("base64url"),
      counter: made.credential.counter,
      transports: made.credential.transports ?? [],
      rpId: party.rpId,
      name,
      createdAt: clock.now(),
      lastUsedAt: null,
    };
    await accounts.with(act).createPasskey(passkey);
    log.info({ userId: caller.userId, passkeyId: passkey.id }, "a passkey was made");
    return passkey;
  }

  // ---------------------------------------------------------------- log-in

  /** For anybody: it names no passkey. @throws SlipwayError `passkeys_unavailable`. */
  async startLogin(): Promise<PasskeyStart<PublicKeyCredentialRequestOptionsJSON>> {
    const { rpId } = this.#party();
    const { ticket, bytes } = this.#challenges.issue(LOGIN);
    const { generateAuthenticationOptions } = await load();
    const options = await generateAuthenticationOptions({
      rpID: rpId,
      challenge: bytes,
      timeout: CHALLENGE_MS,
      userVerification: "required",
    });
    return { ticket, options, expiresIn: CHALLENGE_MS / 1_000 };
  }

  /** @throws SlipwayError `expired` for the challenge, `passkey_refused` for all else (K4). */
  async logIn(
    { ticket, response }: { ticket: string; response: AuthenticationResponseJSON },
    client: ClientInfo,
  ): Promise<TokenGrant> {
    const { accounts, sessions, clock, log } = this.#deps;
    const party = this.#party();
    const challenge = this.#challenges.open(ticket, LOGIN);
    const passkey = await accounts.passkeyFor(response.id);
    const refuse = (reason: Reason): SlipwayError => {
      const { act, address } = client;
      if (act !== undefined)
        act.entry = { ...act.entry, target: passkey?.userId ?? null, detail: { ...act.entry.detail, reason } };
      log.warn({ passkeyId: passkey?.id ?? null, reason, address }, "a log-in with a passkey was refused");
      return refused();
    };
    if (passkey === null || passkey.rpId !== party.rpId) throw refuse("unknown");
    const counter = await proveSignature(passkey, response, challenge.challenge, party);
    if (counter === null) throw refuse("not_proved");
    this.#challenges.use(challenge);
    const user = await accounts.user(passkey.userId);
    if (user === null || user.disabledAt !== null) throw refuse("disabled");
    if (!(await accounts.usePasskey(passkey.id, counter, clock.now())))
      throw refuse((await accounts.passkeyFor(passkey.credentialId)) === null ? "unknown" : "counter");
    return sessions.begin(user, client);
  }

  // ---------------------------------------------------------------- checks

  #party(): RelyingParty {
    const party = this.relyingParty;
    if (party !== null) return party;
    throw new SlipwayError(
      "passkeys_unavailable",
      `Browsers make passkeys for https addresses with a domain name, and for localhost; this server is ${this.#deps.baseUrl()}. Set SLIPWAY_PUBLIC_URL.`,
    );
  }

  async #owner({ userId, via }: AuthenticatedCaller): Promise<User> {
    const user = via === "session" ? await this.#deps.accounts.user(userId) : null;
    if (user === null) throw new SlipwayError("forbidden", "Log in as a person to make a passkey.");
    return user;
  }

  async #roomFor(userId: string): Promise<Passkey[]> {
    const own = await this.#deps.accounts.passkeys(userId);
    if (own.length >= MOST)
      throw new SlipwayError("conflict", `At most ${MOST} passkeys per person. Remove one that is not used first.`);
    return own;
  }
}

/** A ticket for a new passkey is good in the session that asked for it (K1). */
const purposeOf = ({ userId, sessionId }: AuthenticatedCaller): string => `new ${userId} ${sessionId ?? ""}`;

/** The counter of the signature; null when it proves nothing. */
async function proveSignature(
  passkey: Passkey,
  response: AuthenticationResponseJSON,
  challenge: string,
  { origin, rpId }: RelyingParty,
): Promise<number | null> {
  if (response.response.userHandle !== Buffer.from(passkey.userId).toString("base64url")) return null;
  const { verifyAuthenticationResponse } = await load();
  try {
    const { verified, authenticationInfo } = await verifyAuthenticationResponse({
      response,
      expectedChallenge: challenge,
      expectedOrigin: origin,
      expectedRPID: rpId,
      requireUserVerification: true,
      // The store compares the counter, in the write that replaces it (K3).
      credential: {
        id: passkey.credentialId,
        publicKey: new Uint8Array(Buffer.from(passkey.publicKey, "base64url")),
        counter: 0,
      },
    });
    return verified ? authenticationInfo.newCounter : null;
  } catch {
    return null;
  }
}

function refused(): SlipwayError {
  return new SlipwayError("passkey_refused", "This passkey was not accepted. Log in another way, and look at You.");
}
