/** The calls about people, their sessions and their log-ins: `client.people`. */
import type { Role } from "../core/ports/accounts.ts";
import type { CommitIdentity } from "../core/values/git-identity.ts";
import { keyed, type Call, type Transport } from "./transport.ts";
import type {
  Account,
  AuditRecord,
  AuditReport,
  CallOptions,
  DataKey,
  DeviceOffer,
  DeviceOfferState,
  DevicePoll,
  DeviceStart,
  KeyedCallOptions,
  KeyRotation,
  LinkInfo,
  LinkedIdentity,
  ListQuery,
  LoginProviders,
  LoginSession,
  MadeLink,
  NewPasskey,
  OneTimeLink,
  OwnPasskey,
  Page,
  PasskeyStart,
  QuotaChange,
  Usage,
  PendingDevice,
} from "./types.ts";

const user = (id: string): string => `/v1/users/${encodeURIComponent(id)}`;

export class PeopleClient {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Send a browser to `startUrl` to log in with the provider. */
  providers({ signal }: CallOptions = {}): Promise<LoginProviders> {
    return this.#transport.json({ method: "GET", path: "/v1/auth/providers", authenticated: false, signal });
  }

  /** The providers that the caller can log in with. */
  identities(query: ListQuery = {}, options: CallOptions = {}): Promise<Page<LinkedIdentity>> {
    return this.#list("/v1/me/identities", query, options);
  }

  /** Needs a log-in of the last ten minutes. */
  unlink(id: string, options: KeyedCallOptions = {}): Promise<void> {
    return this.#send("DELETE", `/v1/me/identities/${encodeURIComponent(id)}`, undefined, options);
  }

  passkeys(query: ListQuery = {}, options: CallOptions = {}): Promise<Page<OwnPasskey>> {
    return this.#list("/v1/me/passkeys", query, options);
  }

  /** Begins to make a passkey. Needs a log-in of the last ten minutes. */
  startPasskey(options: KeyedCallOptions = {}): Promise<PasskeyStart> {
    return this.#transport.json({ method: "POST", path: "/v1/me/passkeys/start", ...keyed(options) });
  }

  createPasskey(body: NewPasskey, options: KeyedCallOptions = {}): Promise<OwnPasskey> {
    return this.#transport.json({ method: "POST", path: "/v1/me/passkeys", body, ...keyed(options) });
  }

  renamePasskey(id: string, name: string, options: KeyedCallOptions = {}): Promise<void> {
    return this.#send("POST", `/v1/me/passkeys/${encodeURIComponent(id)}`, { name }, options);
  }

  /** Needs a log-in of the last ten minutes. */
  deletePasskey(id: string, options: KeyedCallOptions = {}): Promise<void> {
    return this.#send("DELETE", `/v1/me/passkeys/${encodeURIComponent(id)}`, undefined, options);
  }

  /** How commits of the caller's tasks name them; null = by the e-mail address of the account. */
  async commitIdentity({ signal }: CallOptions = {}): Promise<CommitIdentity | null> {
    const call = { method: "GET", path: "/v1/me/commit-identity", signal } as const;
    return (await this.#transport.json<{ identity: CommitIdentity | null }>(call)).identity;
  }

  /** Counts from the next attempt on. */
  changeCommitIdentity(identity: CommitIdentity, options: KeyedCallOptions = {}): Promise<void> {
    return this.#send("POST", "/v1/me/commit-identity", identity, options);
  }

  deleteCommitIdentity(options: KeyedCallOptions = {}): Promise<void> {
    return this.#send("DELETE", "/v1/me/commit-identity", undefined, options);
  }

  /**
   * The quotas of the caller and their usage; for operators those of all people, or of one `user`.
   */
  usage(query: ListQuery & { user?: string } = {}, options: CallOptions = {}): Promise<Page<Usage>> {
    return this.#list("/v1/usage", query, options);
  }

  /** Where the caller is logged in, the last used first. */
  sessions(query: ListQuery = {}, options: CallOptions = {}): Promise<Page<LoginSession>> {
    return this.#list("/v1/sessions", query, options);
  }

  endSession(id: string, options: KeyedCallOptions = {}): Promise<void> {
    return this.#send("DELETE", `/v1/sessions/${encodeURIComponent(id)}`, undefined, options);
  }

  /** All sessions of the caller; `keepCurrent` keeps the one of this client. */
  endSessions(keepCurrent: boolean, options: KeyedCallOptions = {}): Promise<void> {
    return this.#send("DELETE", "/v1/sessions", undefined, options, keepCurrent ? { keep: "current" } : {});
  }

  /** Ends the caller's other sessions. Leave `currentPassword` out when there is none yet. */
  changePassword(
    body: { currentPassword?: string; newPassword: string },
    options: KeyedCallOptions = {},
  ): Promise<void> {
    return this.#send("POST", "/v1/me/password", body, options);
  }

  /** Needs a log-in of the last ten minutes; `tasks` as in `delete`. */
  deleteMe(tasks: "cancel" | null, options: CallOptions = {}): Promise<void> {
    return this.#send("DELETE", "/v1/me", undefined, options, tasks === null ? {} : { tasks });
  }

  /** All that the caller has, as one gzipped tar archive; nothing of it is unpacked. */
  exportMe({ signal }: CallOptions = {}): Promise<ReadableStream<Uint8Array>> {
    return this.#transport.stream({ method: "GET", path: "/v1/me/export", signal });
  }

  /** Begins a log-in that a person approves in a browser: show them the code and the address. */
  startDevice({ signal }: CallOptions = {}): Promise<DeviceStart> {
    return this.#transport.json({ method: "POST", path: "/v1/device/start", authenticated: false, signal });
  }

  /** Whether it was approved. `client.pollDeviceLogin` also keeps the session. */
  pollDevice(deviceCode: string, { signal }: CallOptions = {}): Promise<DevicePoll> {
    const call = { method: "POST", path: "/v1/device/poll", body: { deviceCode }, authenticated: false } as const;
    return this.#transport.json({ ...call, signal });
  }

  /** Which program shows this code and asks to be logged in. */
  lookAtDevice(userCode: string, { signal }: CallOptions = {}): Promise<PendingDevice> {
    return this.#transport.json({ method: "POST", path: "/v1/device/look", body: { userCode }, signal });
  }

  /** Lets the program act as the caller, or refuses it. */
  decideDevice(userCode: string, allow: boolean, options: KeyedCallOptions = {}): Promise<void> {
    return this.#send("POST", "/v1/device/decide", { userCode, allow }, options);
  }

  /** A link that logs a phone in, when the caller's session approves it; it ends the one before. */
  offerDevice(options: KeyedCallOptions = {}): Promise<DeviceOffer> {
    return this.#transport.json({ method: "POST", path: "/v1/device/offer", ...keyed(options) });
  }

  /** Which device opened the link. Decide with `decideDevice`. */
  deviceOffer({ signal }: CallOptions = {}): Promise<DeviceOfferState> {
    return this.#transport.json({ method: "GET", path: "/v1/device/offer", signal });
  }

  withdrawDeviceOffer(options: KeyedCallOptions = {}): Promise<void> {
    return this.#send("DELETE", "/v1/device/offer", undefined, options);
  }

  /** What a one-time link is for. */
  lookAtLink(token: string, { signal }: CallOptions = {}): Promise<LinkInfo> {
    const call = { method: "POST", path: "/v1/links/look", body: { token }, authenticated: false } as const;
    return this.#transport.json({ ...call, signal });
  }

  // -------------------------------------------------------------- admins

  /** Only this response contains the link's token. */
  invite(body: { role: Role; email?: string; days?: number }, options: KeyedCallOptions = {}): Promise<MadeLink> {
    return this.#transport.json({ method: "POST", path: "/v1/links", body, ...keyed(options) });
  }

  links(query: ListQuery = {}, options: CallOptions = {}): Promise<Page<OneTimeLink>> {
    return this.#list("/v1/links", query, options);
  }

  withdrawLink(id: string, options: KeyedCallOptions = {}): Promise<void> {
    return this.#send("DELETE", `/v1/links/${encodeURIComponent(id)}`, undefined, options);
  }

  /** A link with which the person sets a new password. Only this response contains its token. */
  passwordLink(userId: string, options: KeyedCallOptions = {}): Promise<MadeLink> {
    return this.#transport.json({ method: "POST", path: `${user(userId)}/password-link`, ...keyed(options) });
  }

  setRole(userId: string, role: Role, options: KeyedCallOptions = {}): Promise<Account> {
    return this.#transport.json({ method: "POST", path: `${user(userId)}/role`, body: { role }, ...keyed(options) });
  }

  /** @param tasks what becomes of the person's open tasks. */
  disable(userId: string, tasks: "keep" | "cancel", options: KeyedCallOptions = {}): Promise<Account> {
    const path = `${user(userId)}/disable`;
    return this.#transport.json({ method: "POST", path, body: { tasks }, ...keyed(options) });
  }

  /**
   * Deletes a person with all that they have. Rejects with `task_open` while they have open tasks,
   * unless `tasks` says that those are cancelled.
   */
  delete(userId: string, tasks: "cancel" | null, options: KeyedCallOptions = {}): Promise<void> {
    return this.#send("DELETE", user(userId), undefined, options, tasks === null ? {} : { tasks });
  }

  /** All that a person has, as one gzipped tar archive. */
  export(userId: string, { signal }: CallOptions = {}): Promise<ReadableStream<Uint8Array>> {
    return this.#transport.stream({ method: "GET", path: `${user(userId)}/export`, signal });
  }

  enable(userId: string, options: KeyedCallOptions = {}): Promise<Account> {
    return this.#transport.json({ method: "POST", path: `${user(userId)}/enable`, ...keyed(options) });
  }

  /** Omitted quotas do not change; null = no limit. */
  changeQuotas(userId: string, change: QuotaChange, options: KeyedCallOptions = {}): Promise<Usage> {
    return this.#transport.json({ method: "POST", path: `${user(userId)}/quotas`, body: change, ...keyed(options) });
  }

  endUserSessions(userId: string, options: KeyedCallOptions = {}): Promise<void> {
    return this.#send("DELETE", `${user(userId)}/sessions`, undefined, options);
  }

  /** Rows of the audit log, newest first. */
  audit(
    query: { limit?: number; cursor?: string; actor?: string; action?: string; target?: string } = {},
    options: CallOptions = {},
  ): Promise<Page<AuditRecord>> {
    return this.#list("/v1/audit", query, options);
  }

  /** Whether a row of the audit log was changed, removed or moved. */
  checkAudit({ signal }: CallOptions = {}): Promise<AuditReport> {
    return this.#transport.json({ method: "GET", path: "/v1/audit/check", signal });
  }

  /** The keys that seal values and sign tokens, the newest first: ids and states. */
  keys(query: ListQuery = {}, options: CallOptions = {}): Promise<Page<DataKey>> {
    return this.#list("/v1/keys", query, options);
  }

  /** Makes new keys, and seals stored values again; sessions and workers go on. */
  rotateKeys(options: KeyedCallOptions = {}): Promise<KeyRotation> {
    return this.#transport.json({ method: "POST", path: "/v1/keys/rotate", ...keyed(options) });
  }

  #list<T>(path: string, query: ListQuery, { signal }: CallOptions): Promise<Page<T>> {
    return this.#transport.json({ method: "GET", path, query: { ...query }, signal });
  }

  async #send(
    method: "POST" | "DELETE",
    path: string,
    body: unknown,
    options: KeyedCallOptions,
    query: NonNullable<Call["query"]> = {},
  ): Promise<void> {
    await this.#transport.send({ method, path, body, query, ...keyed(options) });
  }
}
