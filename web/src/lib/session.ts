/**
 * The session of this browser. The refresh token is in a cookie that scripts cannot read; the
 * access token is in memory only.
 *
 * W1 Tabs take turns to refresh (a lock of the browser), so that no refresh token is sent twice.
 * W2 A session that the server ended is `ended`: screens keep their drafts and ask to log in.
 * W3 Without a network the app starts with the person who was logged in last, to show what this
 *    device keeps. The server decides as soon as it answers.
 * W4 A log-out ends the session here at once, whatever is under way, and at the server as soon as
 *    that can be reached: no script can remove the cookie, and until then no page renews with it.
 */
import { readProblem, SlipwayProblem } from "../../../src/client/problem.ts";
import type { TokenProvider } from "../../../src/client/transport.ts";
import type { Me } from "../../../src/client/types.ts";
import { JSON_HEADERS, REFRESH_PATH, SESSION_HINT, SESSION_LOCK, takeEarly, TIMEOUT_MS } from "../boot.ts";
import { forgetDrafts } from "./drafts.ts";
import { closeKept, forgetKept, openKept } from "./device/kept.ts";
import { withLock } from "./device/lock.ts";
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
/** A start that knows the person shows what is kept after so long without an answer, ms. */
const PATIENCE_MS = 400;
let accessToken: string | null = null;
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

/** A call that begins a session, or leads to one. */
export async function post<T = Grant>(path: string, body: unknown): Promise<T> {
  // Its answer brings another cookie, after which nobody could end the session of this one.
  if (path !== REFRESH_PATH && isLoggedOut()) await tryToEnd();
  const response = await fetch(path, {
    method: "POST",
    headers: JSON_HEADERS,
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  }).catch((cause: unknown) => {
    throw new SlipwayProblem("unreachable", 0, "The server cannot be reached.", { cause });
  });
  return readAnswer(response);
}

async function readAnswer<T>(response: Response): Promise<T> {
  const text = await response.text();
  if (!response.ok) throw readProblem(response.status, text, (name) => response.headers.get(name));
  return JSON.parse(text) as T;
}

/** Begins the session here. */
export function adopt(grant: Grant): string {
  noteLogOut(false);
  accessToken = grant.accessToken;
  setHint(grant.user);
  activate(grant.user);
  return grant.accessToken;
}

function activate(user: Me): void {
  const before = session.get();
  if (before.kind !== "active" || before.user.id !== user.id) openKept(user.id);
  session.set({ kind: "active", user });
}

function end(endedAt: number | null, isDeleted = false): null {
  accessToken = null;
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
      const grant = await (early === null ? post(REFRESH_PATH, {}) : readAnswer<Grant>(early.response));
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
};

const delay = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Continues the session of the cookie, once; repeats while the server is unreachable and the person
 * is not known (W3).
 */
export function startSession(): Promise<void> {
  starting ??= (async () => {
    if (isLoggedOut()) void endAtServer();
    if (!hasHint() || isLoggedOut()) end(null);
    const person = readPerson();
    for (let wait = 500; session.get().kind === "loading"; wait = Math.min(wait * 2, 8_000)) {
      const answer = refresh(null).catch(() => delay(person === null ? wait : 0));
      await (person === null ? answer : Promise.race([answer, delay(PATIENCE_MS)]));
      if (person !== null && session.get().kind === "loading") activate(person);
    }
  })();
  return starting;
}

export async function logIn(email: string, password: string): Promise<void> {
  adopt(await post("/v1/session", { email, password }));
}

export async function setUp(token: string, email: string, password: string): Promise<void> {
  adopt(await post("/v1/session/setup", { token, email, password }));
}

/** Uses a one-time link. @param email of an invitation that names none. */
export async function acceptLink(token: string, email: string | undefined, password: string): Promise<void> {
  adopt(await post("/v1/session/link", { token, password, ...(email === undefined ? {} : { email }) }));
}

/** Resolves once this device keeps nothing of the person (W4). */
export async function logOut(): Promise<void> {
  noteLogOut(true);
  void endAtServer();
  await forgetKept("everything");
  forgetDrafts();
  end(null);
}

async function endAtServer(): Promise<void> {
  for (let wait = 500; isLoggedOut() && !(await tryToEnd()); wait = Math.min(wait * 2, 60_000)) await delay(wait);
}

/** @returns false when the server could not be reached. */
function tryToEnd(): Promise<boolean> {
  return withLock(SESSION_LOCK, async () => {
    // Another tab may have ended it.
    if (!isLoggedOut()) return true;
    try {
      // The token at hand may be too old, and a start has none yet.
      const { accessToken: token } = await post(REFRESH_PATH, {});
      const headers = { authorization: `Bearer ${token}` };
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const { ok, status } = await fetch("/v1/session", { method: "DELETE", headers, signal, keepalive: true });
      if (!ok && status !== 401) return false;
    } catch (thrown) {
      if (!(thrown instanceof SlipwayProblem) || thrown.status !== 401) return false;
    }
    noteLogOut(false);
    return true;
  });
}

/** After the account was deleted: this device keeps nothing of the person. */
export async function leaveDeleted(user: Me): Promise<void> {
  // A call that was refused meanwhile may have closed it.
  openKept(user.id);
  await forgetKept("everything");
  forgetDrafts();
  end(null, true);
}
