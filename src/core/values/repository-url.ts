/**
 * Repository URLs and branch names from users. Pure: no process, no DNS (the addresses that a name
 * resolves to are checked when the connection is made, src/git/host-pinning.ts).
 */
import { isIPv4 } from "node:net";
import { SlipwayError } from "../error.ts";
import { parseHostAndPort } from "./hostname.ts";

export interface RepositoryUrl {
  /** Canonical: scheme and host in lower case, no default port, no trailing slash. */
  readonly url: string;
  /** `host` or `host:port`. */
  readonly host: string;
  /** Without the leading slash and `.git`. */
  readonly path: string;
}

export interface RepositoryUrlRules {
  /** `host[:port]` entries that may use plain http, that port, and private addresses. */
  readonly trustedHosts: readonly string[];
}

const LONGEST = 2_000;
const SEGMENT = /^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,100}$/;
/** Names that resolve only on the machine or its network. */
const LOCAL_NAME = /(^|\.)(localhost|local|internal|lan|home|arpa|invalid|test|onion)$/;

/** @throws SlipwayError `invalid_repository`; its text never repeats a secret from the address. */
export function parseRepositoryUrl(text: string, { trustedHosts }: RepositoryUrlRules): RepositoryUrl {
  const refuse = (reason: string): never => {
    throw new SlipwayError("invalid_repository", `${reason} Give an address like https://host/owner/repository.`);
  };
  if (text.length > LONGEST) refuse("The address is too long.");
  const parts = /^(https?):\/\/([^/?#\\]*)\/([^?#\\]*)$/i.exec(text);
  if (parts === null || !/^[\x21-\x7e]+$/.test(text)) return refuse("This is not a web address of a repository.");
  const [, scheme = "", authority = "", rawPath = ""] = parts;
  if (authority.includes("@"))
    refuse("The address must not contain a user name or a token; add a credential for the host instead.");
  const host = readHost(authority, scheme.toLowerCase()) ?? refuse("The host name is not usable.");
  if (!trustedHosts.includes(host)) {
    if (scheme.toLowerCase() !== "https") refuse("Only https is used, except for hosts in SLIPWAY_TRUSTED_REPO_HOSTS.");
    if (host.includes(":")) refuse("Only the default port is used, except for hosts in SLIPWAY_TRUSTED_REPO_HOSTS.");
    if (isIPv4(host) || !host.includes(".") || LOCAL_NAME.test(host)) {
      refuse("Numeric, local and private hosts are used only when they are in SLIPWAY_TRUSTED_REPO_HOSTS.");
    }
  }
  const segments = rawPath.replace(/\/$/, "").split("/");
  if (segments.length > 20 || !segments.every((segment) => SEGMENT.test(segment)) || segments.at(-1) === ".git") {
    refuse("The path is not usable.");
  }
  const path = segments.join("/");
  return { url: `${scheme.toLowerCase()}://${host}/${path}`, host, path: path.replace(/\.git$/, "") };
}

/** @returns `host[:port]` without the scheme's default port, or null when it is not usable. */
function readHost(authority: string, scheme: string): string | null {
  const parsed = parseHostAndPort(authority);
  if (parsed === null || parsed.host.includes("xn--")) return null;
  const { host, port } = parsed;
  return port === null || port === (scheme === "https" ? 443 : 80) ? host : `${host}:${port}`;
}

/**
 * Stricter than git: allows only characters that shells, logs and option parsers do not interpret.
 * @throws SlipwayError `invalid_branch`.
 */
export function parseBranch(name: string): string {
  const fits =
    /^[A-Za-z0-9._/-]{1,200}$/.test(name) &&
    !/^[-/]|\/$|\.$|\.\.|\/\/|\/\.|^\.|\.lock(\/|$)|^refs\/|^HEAD$|^[0-9a-f]{40}$/.test(name);
  if (fits) return name;
  throw new SlipwayError(
    "invalid_branch",
    "Use letters, digits, dots, dashes, underscores and slashes, like feature/login-form.",
  );
}
