/**
 * The first part of the app, in a file of its own that runs while the rest loads (the page's head,
 * web/vite.config.ts): it asks the server for what the screen needs, and the browser for the
 * scripts of the screen. On a slow network both arrive together.
 *
 * Each answer is used once, by the first call that wants it; a call that finds none asks itself.
 */
import { withLock } from "./lib/device/lock.ts";

/** The lock under which tabs refresh (W1 of lib/session.ts). */
export const SESSION_LOCK = "slipway-session";
/** The person, while the browser may have the cookie, which scripts cannot see. */
export const SESSION_HINT = "slipway.session";
export const REFRESH_PATH = "/v1/session/refresh";
export const JSON_HEADERS = { "content-type": "application/json", accept: "application/json" };
export const TIMEOUT_MS = 30_000;
/** The newest tasks, which the list begins with. */
export const LIST_LENGTH = 200;

export interface EarlyAnswer {
  readonly response: Response;
  readonly sentAt: number;
  readonly receivedAt: number;
}

const answers = new Map<string, Promise<EarlyAnswer | null>>();

/** @param path with its query. @returns null when nothing was asked, or no answer came. */
export async function takeEarly(path: string): Promise<EarlyAnswer | null> {
  const answer = answers.get(path);
  answers.delete(path);
  return (await answer) ?? null;
}

/** What one person was answered is not for the next one. */
export const dropEarly = (): void => answers.clear();

async function ask(path: string, init: RequestInit): Promise<EarlyAnswer | null> {
  const sentAt = Date.now();
  try {
    const response = await fetch(path, { ...init, signal: AbortSignal.timeout(TIMEOUT_MS) });
    return { response, sentAt, receivedAt: Date.now() };
  } catch {
    return null;
  }
}

/** The first read of the screen; null = none that is worth it. */
function getFirstRead(path: string): string | null {
  if (path === "/") return `/v1/tasks?limit=${LIST_LENGTH}`;
  const task = /^\/tasks\/(\w+)/.exec(path)?.[1];
  return task === undefined ? null : `/v1/tasks/${task}`;
}

async function readFirst(read: string, granted: Promise<EarlyAnswer | null>): Promise<EarlyAnswer | null> {
  const { response } = (await granted) ?? {};
  if (response?.ok !== true) return null;
  const { accessToken } = (await response.clone().json()) as { accessToken: string };
  return ask(read, { headers: { accept: "application/json", authorization: `Bearer ${accessToken}` } });
}

function mayHaveSession(): boolean {
  try {
    return localStorage.getItem(SESSION_HINT) !== null;
  } catch {
    return false;
  }
}

/** The build lists the scripts of each screen in the page. */
function preloadScreen(path: string): void {
  const listed = document.querySelector<HTMLMetaElement>('meta[name="slipway-screens"]')?.content ?? "{}";
  const screens = JSON.parse(listed) as Readonly<Record<string, readonly string[]>>;
  for (const file of screens[path.replace(/^\/tasks\/[^/]+/, "/tasks")] ?? []) {
    const link = document.createElement("link");
    link.rel = "modulepreload";
    link.crossOrigin = "";
    link.href = `/${file}`;
    document.head.append(link);
  }
}

function continueSession(path: string): void {
  if (!mayHaveSession() || /^\/(?:login|setup|join|pair)\b/.test(path)) return;
  // Sent before it is this page's turn, which a busy processor learns late: the server takes a
  // token twice within 30 s (rule H19). Other pages wait for its answer.
  const granted = ask(REFRESH_PATH, { method: "POST", headers: JSON_HEADERS, body: "{}" });
  void withLock(SESSION_LOCK, () => granted);
  answers.set(REFRESH_PATH, granted);
  const read = getFirstRead(path);
  if (read !== null) answers.set(read, readFirst(read, granted));
}

// The session first: a browser has few connections for one server, and two answers hang on it.
continueSession(location.pathname);
preloadScreen(location.pathname);
