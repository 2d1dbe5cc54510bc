/**
 * Cookies of browsers.
 *
 * B1 Over https a cookie has the `__Host-` prefix and `Secure`. Plain http serves loopback and
 *    private networks only; there it has neither.
 * B2 A route that reads a cookie rejects a request that another site caused.
 */
import { SlipwayError } from "../core/error.ts";
import type { RouteCall } from "./route.ts";

type AnyCall = Pick<RouteCall<unknown, unknown>, "headers" | "isSecure">;

/** `slipway` is the session; `slipway-login` is a log-in with a provider that is under way. */
type CookieName = "slipway" | "slipway-login";

const fullName = ({ isSecure }: AnyCall, name: CookieName): string => (isSecure ? `__Host-${name}` : name);

/**
 * The value of a Set-Cookie header.
 * @param sameSite `Lax` is sent when another site leads the browser here, `Strict` is not.
 */
export function setCookie(
  call: AnyCall,
  name: CookieName,
  value: string,
  seconds: number,
  sameSite: "Strict" | "Lax" = "Strict",
): string {
  const flags = `Path=/; Max-Age=${seconds}; HttpOnly; SameSite=${sameSite}${call.isSecure ? "; Secure" : ""}`;
  return `${fullName(call, name)}=${value}; ${flags}`;
}

export function readCookie(call: AnyCall, name: CookieName): string | null {
  const wanted = fullName(call, name);
  for (const pair of (call.headers.cookie ?? "").split(";")) {
    const [key, value] = pair.trim().split("=", 2);
    if (key === wanted && value !== undefined && value !== "") return value;
  }
  return null;
}

/** Browsers send Sec-Fetch-Site; older ones send Origin with every POST and DELETE. */
export function rejectOtherSites({ headers }: AnyCall): void {
  const site = headers["sec-fetch-site"];
  const { origin, host } = headers;
  const isSame = site === undefined ? origin === undefined || hostOf(origin) === host : site === "same-origin";
  if (!isSame) throw new SlipwayError("forbidden", "This request came from another site.");
}

function hostOf(origin: string): string | null {
  return URL.canParse(origin) ? new URL(origin).host : null;
}
