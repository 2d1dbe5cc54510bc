/**
 * The session of this browser. The refresh token is in a cookie that scripts cannot read; the
 * access token is in memory only.
 *
 * W1 Tabs take turns to refresh (a lock of the browser), so that no refresh token is sent twice;
 *    but for a start, which does not wait for its turn (boot.ts).
 * W2 A session that the server ended is `ended`: screens keep their drafts and ask to log in.
 * W3 Without a network the app starts with the person who was logged in last, to show what this
 *    device keeps. The server decides as soon as it answers.
 * W4 A log-out ends the session here at once, whatever is under way, and at the server as soon as
 *    that can be reached: no script can remove the cookie, and until then no page renews with it.
 *    The other tabs leave too. Notifications are gone, which the service worker could act on.
 * W5 Calls end with the session in which they were made: none is repeated as another person.
 *    The next person finds nothing of the one before, whose session may have ended without a
 *    log-out; what that one did not send stays in a database of their own (K3).
 * W6 A log-in takes its turn among the refreshes, and ends the session of an unfinished log-out
 *    first: its answer brings another cookie, after which nobody could.
 */
import { readProblem, SlipwayProblem } from "../../../src/client/problem.ts";
import { newKey, type TokenProvider } from "../../../src/client/transport.ts";
import type { Me } from "../../../src/client/types.ts";
import { JSON_HEADERS, REFRESH_PATH, SESSION_HINT, SESSION_LOCK, takeEarly, TIMEOUT_MS } from "../boot.ts";
import { forgetDrafts } from "./drafts.ts";
import { closeKept, forgetKept, openKept } from "./device/kept.ts";
import { withLock } from "./device/lock.ts";
import { read, unsubscribe, write } from "./device/push-support.ts";
import { createStore, useStore } from "./store.ts";

export type SessionState =
  | { readonly kind: "loading" }
  | { readonly kind: "active"; readonly user: Me }
  /** `isDeleted`: with the account. */
  | { readonly kind: "none"; readonly endedAt: number | null; readonly isDeleted: boolean };

export interface Grant {
  readonly accessToken: string;
  readonly expiresIn: number;
  readonly user: Me;
}

/** Set while the server may not know of a log-out. */
const LOGGED_OUT = "slipway.logged-out";
/** Of whom this device may have drafts, notifications and what was seen, also after the session. */
const PERSON = "slipway.person";
/** A start that knows the person shows what is kept after so long without an answer, ms. */
const PATIENCE_MS = 400;
let accessToken: string | null = null;
/** Aborted when the session ends (W5). */
let lifetime = new AbortController();
let starting: Promise<void> | null = null;

export const session = createStore<SessionState>({ kind: "loading" });

/** Null without a session. */
export const getPerson = (): Me | null => {
  const state = session.get();
  return state.kind === "active" ? state.user : null;
};

export function usePerson(): Me | null {
  const state = useStore(session);
  return state.kind === "active" ? state.user : null;
}

/** Of this page, where the browser cannot store it. */
let hasLeft = false;

/** True from a log-out on until the server knows of it, or somebody logs in. */
function isLoggedOut(): boolean {
  try {
    return hasLeft || localStorage.getItem(LOGGED_OUT) !== null;
  } catch {
    return hasLeft;
  }
}

function noteLogOut(isOut: boolean): void {
  hasLeft = false;
  try {
    if (isOut) localStorage.setItem(LOGGED_OUT, "1");
    else localStorage.removeItem(LOGGED_OUT);
  } catch {
    hasLeft = isOut;
  }
}

/** Calls without an answer, by path: sent again, each is the same call for the server (rule R5). */
const unanswered = new Map<string, { readonly text: string; readonly key: string }>();

interface PostOptions {
  readonly timeoutMs?: number;
}

/** A call that leads to a session. */
export async function post<T>(path: string, body: unknown, { timeoutMs = TIMEOUT_MS }: PostOptions = {}): Promise<T> {
  const text = JSON.stringify(body);
  const before = unanswered.get(path);
  const key = before?.text === text ? before.key : newKey();
  const answer = await fetch(path, {
    method: "POST",
    headers: { ...JSON_HEADERS, "idempotency-key": key },
    body: text,
    signal: AbortSignal.timeout(timeoutMs),
  })
    .then(readAnswer)
    .catch((cause: unknown) => {
      unanswered.set(path, { text, key });
      throw new SlipwayProblem("unreachable", 0, "The server cannot be reached.", { cause });
    });
  unanswered.delete(path);
  return parseAnswer<T>(answer);
}

interface AnswerText {
  readonly response: Response;
  readonly text: string;
}

const readAnswer = async (response: Response): Promise<AnswerText> => ({ response, text: await response.text() });

/** @throws SlipwayProblem of an answer that is none of success. */
function parseAnswer<T>({ response, text }: AnswerText): T {
  if (!response.ok) throw readProblem(response.status, text, (name) => response.headers.get(name));
  return JSON.parse(text) as T;
}

/**
 * A call that may begin a session (W6). @param read the session in its answer; null = none yet.
 * @returns whether the person is logged in.
 */
export function enter<T = Grant>(
  path: string,
  body: unknown,
  read: (answer: T) => Grant | null,
  options?: PostOptions,
): Promise<boolean> {
  return withLock(SESSION_LOCK, async () => {
    if (isLoggedOut()) await endOfCookie();
    const grant = read(await post<T>(path, body, options));
    if (grant !== null) adopt(grant);
    return grant !== null;
  });
}

const readGrant = (grant: Grant): Grant => grant;

/** Begins the session here. */
function adopt(grant: Grant): string {
  noteLogOut(false);
  leaveOther(grant.user);
  accessToken = grant.accessToken;
  setHint(grant.user);
  activate(grant.user);
  return grant.accessToken;
}

/** Drops what this device has of another person (W5). */
function leaveOther({ id }: Me): void {
  const known = read(PERSON);
  write(PERSON, id);
  if (known === null || known === id) return;
  if (session.get().kind === "active") end(Date.now());
  openKept(known);
  void forgetKept("seen");
  forgetDrafts();
  void unsubscribe();
}

function activate(user: Me): void {
  const before = session.get();
  if (before.kind !== "active" || before.user.id !== user.id) openKept(user.id);
  session.set({ kind: "active", user });
}

function end(endedAt: number | null, isDeleted = false): null {
  accessToken = null;
  lifetime.abort(new SlipwayProblem("unauthenticated", 401, "The session has ended."));
  lifetime = new AbortController();
  setHint(null);
  session.set({ kind: "none", endedAt, isDeleted });
  closeKept();
  return null;
}

function setHint(user: Me | null): void {
  try {
    if (user === null) localStorage.removeItem(SESSION_HINT);
    else localStorage.setItem(SESSION_HINT, JSON.stringify(user));
  } catch {
    // Without storage each start asks the server.
  }
}

/** The server ends a log-in with a provider here: the browser has the cookie now. */
const FROM_PROVIDER = "#session";

function hasHint(): boolean {
  if (location.hash === FROM_PROVIDER) {
    history.replaceState(history.state, "", location.pathname + location.search);
    return true;
  }
  try {
    return localStorage.getItem(SESSION_HINT) !== null;
  } catch {
    return true;
  }
}

function readPerson(): Me | null {
  try {
    const hint = JSON.parse(localStorage.getItem(SESSION_HINT) ?? "null") as Partial<Me> | number | null;
    return typeof hint === "object" && typeof hint?.id === "string" ? (hint as Me) : null;
  } catch {
    return null;
  }
}

/** Resolves to a token other than the refused one, or null when the person must log in. */
async function refresh(refused: string | null): Promise<string | null> {
  return withLock(SESSION_LOCK, async () => {
    if (isLoggedOut()) return session.get().kind === "none" ? null : end(null);
    if (accessToken !== null && accessToken !== refused) return accessToken;
    try {
      const early = await takeEarly(REFRESH_PATH);
      const grant = await (early === null
        ? post<Grant>(REFRESH_PATH, {})
        : readAnswer(early.response).then(parseAnswer<Grant>));
      return isLoggedOut() ? null : adopt(grant);
    } catch (thrown) {
      const wasActive = session.get().kind === "active";
      if (!(thrown instanceof SlipwayProblem) || thrown.status !== 401) throw thrown;
      await forgetSeen();
      // Keeps the reason for the end of the session: a call that was under way may fail later.
      return session.get().kind === "none" ? null : end(wasActive ? Date.now() : null);
    }
  });
}

/** The device may be in other hands. What was not sent stays: only a person drops it. */
async function forgetSeen(): Promise<void> {
  const person = readPerson();
  if (person !== null && session.get().kind !== "active") openKept(person.id);
  await forgetKept("seen");
}

export const tokens: TokenProvider = {
  // An app that started without a network has a person, but no token yet.
  bearer: () =>
    accessToken === null && session.get().kind === "active" ? refresh(null) : Promise.resolve(accessToken),
  renew: refresh,
  signal: () => lifetime.signal,
};

const delay = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Continues the session of the cookie, once; repeats while the server is unreachable and the person
 * is not known (W3).
 */
export function startSession(): Promise<void> {
  starting ??= (async () => {
    if (!hasHint() || isLoggedOut()) end(null);
    const person = readPerson();
    for (let wait = 500; session.get().kind === "loading"; wait = Math.min(wait * 2, 8_000)) {
      const answer = refresh(null).catch(() => delay(person === null ? wait : 0));
      await (person === null ? answer : Promise.race([answer, delay(PATIENCE_MS)]));
      if (person !== null && !isLoggedOut() && session.get().kind === "loading") activate(person);
    }
  })();
  return starting;
}

export async function logIn(email: string, password: string): Promise<void> {
  await enter("/v1/session", { email, password }, readGrant);
}

export async function setUp(token: string, email: string, password: string): Promise<void> {
  await enter("/v1/session/setup", { token, email, password }, readGrant);
}

/** Uses a one-time link. @param email of an invitation that names none. */
export async function acceptLink(token: string, email: string | undefined, password: string): Promise<void> {
  const body = { token, password, ...(email === undefined ? {} : { email }) };
  await enter("/v1/session/link", body, readGrant);
}

/** @param ticket of the challenge. @param response what the browser signed. */
export async function enterWithTicket(ticket: string, response: unknown): Promise<void> {
  await enter("/v1/session/passkey", { ticket, response }, readGrant);
}

/**
 * Goes to a log-in that ends at an address of the app (FROM_PROVIDER), which would be taken for the
 * session of an unfinished log-out. @throws SlipwayProblem when that cannot be finished.
 */
export async function leaveForProvider(url: string): Promise<void> {
  if (!(await tryToEnd())) throw new SlipwayProblem("unreachable", 0, "The server cannot be reached.");
  location.assign(url);
}

/** Resolves once this device keeps nothing of the person (W4). */
export async function logOut(): Promise<void> {
  noteLogOut(true);
  void endAtServer();
  await leave();
}

/** Call it once: finishes the log-outs of this browser, whichever tab began them. */
export function watchLogOut(): void {
  if (isLoggedOut()) void endAtServer();
  addEventListener("storage", ({ key, newValue }) => {
    if (key !== LOGGED_OUT || newValue === null) return;
    void endAtServer();
    if (session.get().kind !== "none") void leave();
  });
}

/** @param isDeleted the account was deleted. */
async function leave(isDeleted = false): Promise<void> {
  const forgotten = forgetKept("everything");
  forgetDrafts();
  write(PERSON, null);
  const unsubscribed = unsubscribe();
  end(null, isDeleted);
  await Promise.all([forgotten, unsubscribed]);
}

async function endAtServer(): Promise<void> {
  for (let wait = 500; !(await tryToEnd()); wait = Math.min(wait * 2, 60_000)) await delay(wait);
}

/** @returns false when the server could not be reached. */
const tryToEnd = (): Promise<boolean> => withLock(SESSION_LOCK, endOfCookie);

/** Ends the session of an unfinished log-out. Call it in the turn of this page (W1). */
async function endOfCookie(): Promise<boolean> {
  // Another tab may have ended it.
  if (!isLoggedOut()) return true;
  try {
    // The token at hand may be too old, and a start has none yet.
    const { accessToken: token } = await post<Grant>(REFRESH_PATH, {});
    // Where tabs take no turns, another one may have logged in.
    if (!isLoggedOut()) return true;
    const headers = { authorization: `Bearer ${token}` };
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const { ok, status } = await fetch("/v1/session", { method: "DELETE", headers, signal, keepalive: true });
    if (!ok && status !== 401) return false;
  } catch (thrown) {
    if (!(thrown instanceof SlipwayProblem) || thrown.status !== 401) return false;
  }
  noteLogOut(false);
  return true;
}

/** After the account was deleted: this device keeps nothing of the person. */
export async function leaveDeleted(user: Me): Promise<void> {
  // A call that was refused meanwhile may have closed it.
  openKept(user.id);
  await leave(true);
}
