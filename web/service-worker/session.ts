/**
 * Calls as the person, from a notification. The session is the cookie; the access token that it
 * gives is used once. The lock is that of the pages (web/src/lib/session.ts), so that no refresh
 * token is sent twice.
 */
const LOCK = "slipway-session";

const JSON_HEADERS = { "content-type": "application/json", accept: "application/json" };

/** @returns the status; 0 = the server cannot be reached, 401 = the person must log in. */
export async function callAsPerson(path: string, body: object | null, key: string): Promise<number> {
  try {
    const token = await navigator.locks.request(LOCK, refresh);
    if (token === null) return 401;
    const response = await fetch(path, {
      method: "POST",
      headers: { ...JSON_HEADERS, authorization: `Bearer ${token}`, "idempotency-key": key },
      ...(body === null ? {} : { body: JSON.stringify(body) }),
    });
    return response.status;
  } catch {
    return 0;
  }
}

async function refresh(): Promise<string | null> {
  const response = await fetch("/v1/session/refresh", { method: "POST", headers: JSON_HEADERS, body: "{}" });
  if (!response.ok) return null;
  const { accessToken } = (await response.json()) as { accessToken?: unknown };
  return typeof accessToken === "string" ? accessToken : null;
}
