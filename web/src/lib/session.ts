/**
 * The session of this browser. The refresh token is in a cookie that scripts cannot read; the
 * access token is in memory only.
 *
 * W1 Tabs take turns to refresh (a lock of the browser), so that no refresh token is sent twice.
 * W2 A session that the server ended is `ended`: screens keep their drafts and ask to log in.
 */
import { readProblem, SlipwayProblem } from "../../../src/client/problem.ts";
import type { TokenProvider } from "../../../src/client/transport.ts";
import type { Me } from "../../../src/client/types.ts";
import { createStore } from "./store.ts";

export type SessionState =
  | { readonly kind: "loading" }
  | { readonly kind: "active"; readonly user: Me }
  | { readonly kind: "none"; readonly endedAt: number | null };

interface Grant {
  readonly accessToken: string;
  readonly expiresIn: number;
  readonly user: Me;
}

const LOCK = "slipway-session";
/** Set while the browser may have the cookie, which scripts cannot see. */
const HINT = "slipway.session";
let accessToken: string | null = null;
let starting: Promise<void> | null = null;

export const session = createStore<SessionState>({ kind: "loading" });

async function post(path: string, body: unknown): Promise<Grant> {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/json" },
    body: JSON.stringify(body),
  }).catch((cause: unknown) => {
    throw new SlipwayProblem("unreachable", 0, "The server cannot be reached.", { cause });
  });
  const text = await response.text();
  if (!response.ok) throw readProblem(response.status, text, (name) => response.headers.get(name));
  return JSON.parse(text) as Grant;
}

function adopt(grant: Grant): string {
  accessToken = grant.accessToken;
  setHint(true);
  session.set({ kind: "active", user: grant.user });
  return grant.accessToken;
}

function end(endedAt: number | null): null {
  accessToken = null;
  setHint(false);
  session.set({ kind: "none", endedAt });
  return null;
}

function setHint(isActive: boolean): void {
  try {
    if (isActive) localStorage.setItem(HINT, "1");
    else localStorage.removeItem(HINT);
  } catch {
    // Without storage each start asks the server.
  }
}

function hasHint(): boolean {
  try {
    return localStorage.getItem(HINT) !== null;
  } catch {
    return true;
  }
}

/** Resolves to a token other than the refused one, or null when the person must log in. */
async function refresh(refused: string | null): Promise<string | null> {
  return navigator.locks.request(LOCK, async () => {
    if (accessToken !== null && accessToken !== refused) return accessToken;
    const wasActive = session.get().kind === "active";
    try {
      return adopt(await post("/v1/session/refresh", {}));
    } catch (thrown) {
      if (thrown instanceof SlipwayProblem && thrown.status === 401) return end(wasActive ? Date.now() : null);
      throw thrown;
    }
  });
}

export const tokens: TokenProvider = {
  bearer: () => Promise.resolve(accessToken),
  renew: refresh,
};

/** Continues the session of the cookie, once; repeats while the server is unreachable. */
export function startSession(): Promise<void> {
  starting ??= (async () => {
    if (!hasHint()) end(null);
    for (let wait = 500; session.get().kind === "loading"; wait = Math.min(wait * 2, 8_000)) {
      try {
        await refresh(null);
      } catch {
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
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

export async function logOut(): Promise<void> {
  const headers = { authorization: `Bearer ${accessToken ?? ""}` };
  await fetch("/v1/session", { method: "DELETE", headers }).catch(() => undefined);
  end(null);
}
