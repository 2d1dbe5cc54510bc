/**
 * Calls as the person, without a page. The session is the cookie; the access token that it
 * gives is used once. The lock is that of the pages (web/src/lib/session.ts), so that no refresh
 * token is sent twice.
 */
const LOCK = "slipway-session";

/** Pages wait for the lock meanwhile: a network that swallows requests must not hold it, ms. */
const TIMEOUT_MS = 30_000;

const JSON_HEADERS = { "content-type": "application/json", accept: "application/json" };

/** @returns the status; 0 = the server cannot be reached, 401 = the person must log in. */
export async function callAsPerson(path: string, body: object | null, key: string): Promise<number> {
  try {
    const session = await openSession();
    if (session === null) return 401;
    const response = await fetch(path, {
      method: "POST",
      headers: { ...JSON_HEADERS, authorization: `Bearer ${session.token}`, "idempotency-key": key },
      ...(body === null ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    return response.status;
  } catch {
    return 0;
  }
}

export interface WorkerSession {
  readonly token: string;
  readonly userId: string;
}

/** @returns null when the person must log in. Rejects when the server cannot be reached. */
export const openSession = (): Promise<WorkerSession | null> => navigator.locks.request(LOCK, refresh);

async function refresh(): Promise<WorkerSession | null> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const response = await fetch("/v1/session/refresh", { method: "POST", headers: JSON_HEADERS, body: "{}", signal });
  if (response.status >= 500 || response.status === 429) throw new Error(`the server answered ${response.status}`);
  if (!response.ok) return null;
  const { accessToken, user } = (await response.json()) as { accessToken: string; user: { id: string } };
  return { token: accessToken, userId: user.id };
}
