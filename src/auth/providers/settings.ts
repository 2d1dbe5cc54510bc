/**
 * The providers of an installation, from its environment: `SLIPWAY_OIDC_<NAME>_…` for each OpenID
 * Connect provider, `SLIPWAY_GITHUB_…` for GitHub. They are variables only, because arguments are
 * visible to everyone on the machine.
 */
import { SlipwayError } from "../../core/error.ts";
import { parseAllowList, type AllowList } from "./allow-list.ts";
import type { GithubSettings } from "./github.ts";
import type { OidcSettings } from "./oidc.ts";

export type ProviderSettings = GithubSettings | OidcSettings;
type Env = Readonly<Record<string, string | undefined>>;

const OIDC_FIELDS = ["ISSUER", "CLIENT_ID", "CLIENT_SECRET", "SCOPES", "ALLOW"] as const;
const OIDC_NAME = /^SLIPWAY_OIDC_([A-Z][A-Z0-9_]{0,29})_(ISSUER|CLIENT_ID|CLIENT_SECRET|SCOPES|ALLOW)$/;
/** Where GitHub is, without slashes at the end. */
export interface GithubAddress {
  readonly githubUrl: string;
  readonly githubApiUrl: string;
}
const EXPECTS_ALLOW =
  "a comma-separated list of ann@example.org, @example.org, user:name and org:name; without one only linked people log in";

/** @throws SlipwayError `config_invalid` with one sentence that names the variable. */
export function readProviderSettings(env: Env, address: GithubAddress): ProviderSettings[] {
  const names = new Set(Object.keys(env).flatMap((key) => OIDC_NAME.exec(key)?.[1] ?? []));
  const oidc = [...names].toSorted().flatMap((name) => readOidc(env, name) ?? []);
  const github = readGithub(env, address);
  if (github === null) return oidc;
  if (oidc.some(({ id }) => id === "github"))
    throw invalid("SLIPWAY_OIDC_GITHUB_ISSUER", "must have another name: github is the provider of SLIPWAY_GITHUB_…");
  return [github, ...oidc];
}

function readGithub(env: Env, { githubUrl, githubApiUrl }: GithubAddress): GithubSettings | null {
  const [clientId, clientSecret] = [read(env, "SLIPWAY_GITHUB_CLIENT_ID"), read(env, "SLIPWAY_GITHUB_CLIENT_SECRET")];
  if (clientId === null && clientSecret === null) return null;
  if (clientId === null || clientSecret === null)
    throw invalid("SLIPWAY_GITHUB_CLIENT_ID", "and SLIPWAY_GITHUB_CLIENT_SECRET must be set together");
  assertUrl("SLIPWAY_GITHUB_URL", githubUrl);
  assertUrl("SLIPWAY_GITHUB_API_URL", githubApiUrl);
  const allow = readAllow(env, "SLIPWAY_GITHUB_ALLOW");
  return { kind: "github", url: githubUrl, apiUrl: githubApiUrl, clientId, clientSecret, allow };
}

function readOidc(env: Env, name: string): OidcSettings | null {
  const variable = (field: (typeof OIDC_FIELDS)[number]): string => `SLIPWAY_OIDC_${name}_${field}`;
  if (OIDC_FIELDS.every((field) => read(env, variable(field)) === null)) return null;
  const needed = (field: (typeof OIDC_FIELDS)[number]): string => {
    const value = read(env, variable(field));
    if (value === null) throw invalid(variable(field), "must be set: this provider has other settings");
    return value;
  };
  assertUrl(variable("ISSUER"), needed("ISSUER"));
  const scopes = read(env, variable("SCOPES")) ?? "openid email profile";
  if (!/^[\x21-\x7e]+(?: [\x21-\x7e]+)*$/.test(scopes) || !scopes.split(" ").includes("openid"))
    throw invalid(variable("SCOPES"), "must be a list of scopes between spaces, openid among them");
  return {
    kind: "oidc",
    id: name.toLowerCase().replaceAll("_", "-"),
    name: name.charAt(0) + name.slice(1).toLowerCase().replaceAll("_", " "),
    // Exactly as given: the provider's own metadata must name the same text.
    issuer: needed("ISSUER"),
    clientId: needed("CLIENT_ID"),
    clientSecret: needed("CLIENT_SECRET"),
    scopes,
    allow: readAllow(env, variable("ALLOW")),
  };
}

function read(env: Env, name: string): string | null {
  return env[name]?.trim() || null;
}

function readAllow(env: Env, name: string): AllowList {
  const entries = (read(env, name) ?? "").split(",").map((entry) => entry.trim());
  const list = parseAllowList(entries.filter((entry) => entry !== ""));
  if (list === null) throw invalid(name, `must be ${EXPECTS_ALLOW}`);
  return list;
}

/** Over plain http an attacker in between could log in as any person. */
function assertUrl(name: string, text: string): void {
  const url = URL.canParse(text) ? new URL(text) : null;
  const isPlain = url !== null && `${url.username}${url.password}${url.search}${url.hash}` === "";
  if (!isPlain || !(url.protocol === "https:" || (url.protocol === "http:" && isLoopback(url.hostname))))
    throw invalid(name, "must be an https address without a query for log-ins; http only for this machine");
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || /^127(?:\.\d{1,3}){3}$/.test(host);
}

function invalid(name: string, what: string): SlipwayError {
  return new SlipwayError("config_invalid", `${name} ${what}.`);
}
