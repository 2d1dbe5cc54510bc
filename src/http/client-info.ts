/** Reads the client of a request from its headers, for the list of sessions. */
import type { ClientInfo } from "../auth/sessions.ts";
import type { RouteCall } from "./route.ts";

const SYSTEMS: readonly (readonly [RegExp, string])[] = [
  [/iPhone/, "iPhone"],
  [/iPad/, "iPad"],
  [/Android/, "Android"],
  [/Windows/, "Windows"],
  [/CrOS/, "ChromeOS"],
  [/Mac OS X|Macintosh/, "macOS"],
  [/Linux/, "Linux"],
];
/** The first that matches: browsers also name those that they descend from. */
const PROGRAMS: readonly (readonly [RegExp, string])[] = [
  [/slipway-cli/, "slipway"],
  [/Edg(?:e|A|iOS)?\//, "Edge"],
  [/OPR\//, "Opera"],
  [/SamsungBrowser/, "Samsung Internet"],
  [/Firefox\/|FxiOS/, "Firefox"],
  [/Chrome\/|CriOS/, "Chrome"],
  [/Safari\//, "Safari"],
];

export function readClientInfo({
  headers,
  ip,
  act,
}: Pick<RouteCall<unknown, unknown>, "headers" | "ip" | "act">): ClientInfo {
  const address = ip.replace(/^::ffff:(?=\d+\.)/, "");
  return { device: describeDevice(headers["user-agent"] ?? ""), address, ...(act === undefined ? {} : { act }) };
}

/** For example "Firefox on Linux". The text is a claim of the client and proves nothing. */
export function describeDevice(userAgent: string): string {
  const find = (rows: typeof SYSTEMS): string | null => rows.find(([pattern]) => pattern.test(userAgent))?.[1] ?? null;
  const [program, system] = [find(PROGRAMS), find(SYSTEMS)];
  if (program !== null) return system === null ? program : `${program} on ${system}`;
  const [first = ""] = userAgent.split(/[/\s]/, 1);
  return /^[\w.-]{1,40}$/.test(first) ? first : "An unknown program";
}
