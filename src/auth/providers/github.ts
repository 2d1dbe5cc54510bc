/**
 * GitHub and GitHub Enterprise Server: OAuth with PKCE; who it was for is read from the API. A
 * person is identified by the numeric id, because a login name can be reassigned.
 */
import * as oauth from "openid-client";
import { z } from "zod";
import { parseEmail, type AllowList, type ProviderPerson } from "./allow-list.ts";
import { printable } from "./oidc.ts";
import { LoginRefused, PROVIDER_SECONDS, toRefusal, type GitGrant, type Provider } from "./provider.ts";

export interface GithubSettings {
  readonly kind: "github";
  /** Without a slash at the end. */
  readonly url: string;
  readonly apiUrl: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly allow: AllowList;
}

/** Reads and pushes, pull requests, and no settings of an account. */
const GIT_SCOPE = "repo";
const HEADERS = { accept: "application/vnd.github+json", "user-agent": "slipway" };
/** Pages of 100 organisations that are read at most. */
const ORG_PAGES = 10;

const userSchema = z.object({ id: z.int().positive(), login: z.string().min(1).max(255) });
const emailsSchema = z.array(z.object({ email: z.string(), primary: z.boolean(), verified: z.boolean() }));
const orgsSchema = z.array(z.object({ login: z.string() }));

/** @param now epoch ms. */
export function openGithubProvider(settings: GithubSettings, now: () => number): Provider {
  const { url, apiUrl, clientId, clientSecret, allow } = settings;
  const metadata = {
    issuer: `${url}/login/oauth`,
    authorization_endpoint: `${url}/login/oauth/authorize`,
    token_endpoint: `${url}/login/oauth/access_token`,
  };
  const config = new oauth.Configuration(metadata, clientId, undefined, oauth.ClientSecretPost(clientSecret));
  config.timeout = PROVIDER_SECONDS;
  config[oauth.customFetch] = fetchToken;
  if (url.startsWith("http:")) oauth.allowInsecureRequests(config);
  const scope = `read:user user:email${allow.needsOrganisations ? " read:org" : ""}`;
  return {
    id: "github",
    name: "GitHub",
    issuer: url,
    allow,
    git: {
      host: new URL(url).host,
      async refresh(refreshToken) {
        try {
          return toGrant(await oauth.refreshTokenGrant(config, refreshToken), now());
        } catch (error) {
          throw toRefusal(error);
        }
      },
      revoke: (token, what) => revoke(settings, token, what),
    },
    async authorize({ redirectUri, state, verifier, withGit }) {
      return oauth.buildAuthorizationUrl(config, {
        redirect_uri: redirectUri,
        scope: withGit ? `${scope} ${GIT_SCOPE}` : scope,
        state,
        code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
        code_challenge_method: "S256",
        allow_signup: "false",
      });
    },
    async identify(callback, { state, verifier, withGit }) {
      try {
        const checks = { expectedState: state, pkceCodeVerifier: verifier };
        const answer = await oauth.authorizationCodeGrant(config, callback, checks);
        const person = await readPerson(apiUrl, answer.access_token, allow.needsOrganisations);
        if (!withGit) return { person, grant: null };
        const grant = toGrant(answer, now());
        if (grant.scopes !== null && !grant.scopes.includes(GIT_SCOPE))
          throw new LoginRefused("denied", `the scope ${GIT_SCOPE} was not granted`);
        return { person, grant };
      } catch (error) {
        throw toRefusal(error);
      }
    },
  };
}

/** An app of the newer kind has rights instead of scopes, and its tokens end. */
function toGrant(answer: oauth.TokenEndpointResponse, now: number): GitGrant {
  const { access_token: accessToken, refresh_token: refreshToken, expires_in: seconds, scope = "" } = answer;
  const scopes = scope.split(/[ ,]+/).filter((name) => name !== "");
  return {
    accessToken,
    refreshToken: refreshToken ?? null,
    expiresAt: seconds === undefined ? null : now + seconds * 1_000,
    scopes: scopes.length === 0 ? null : scopes,
  };
}

async function revoke(settings: GithubSettings, token: string, what: "token" | "all"): Promise<void> {
  const { apiUrl, clientId, clientSecret } = settings;
  const basic = Buffer.from(`${clientId}:${clientSecret}`).toString("base64");
  const response = await fetch(
    `${apiUrl}/applications/${encodeURIComponent(clientId)}/${what === "all" ? "grant" : "token"}`,
    {
      method: "DELETE",
      headers: { ...HEADERS, authorization: `Basic ${basic}`, "content-type": "application/json" },
      body: JSON.stringify({ access_token: token }),
      redirect: "error",
      signal: AbortSignal.timeout(PROVIDER_SECONDS * 1_000),
    },
  );
  // 404 and 422: it was taken back before.
  if (!response.ok && response.status !== 404 && response.status !== 422)
    throw new LoginRefused("provider_failed", `the end of a grant was answered with ${response.status}`);
}

/** GitHub answers a refused code with status 200 and an `error`; openid-client expects 400. */
const fetchToken: oauth.CustomFetch = async (url, options) => {
  const response = await fetch(url, options as RequestInit);
  if (!response.ok) return response;
  const text = await response.text();
  const isError = /^\s*\{/.test(text) && "error" in (JSON.parse(text) as object);
  return new Response(text, { status: isError ? 400 : response.status, headers: response.headers });
};

async function readPerson(apiUrl: string, token: string, withOrgs: boolean): Promise<ProviderPerson> {
  const { id, login } = userSchema.parse(await get(apiUrl, "/user", token));
  const emails = emailsSchema.parse(await get(apiUrl, "/user/emails?per_page=100", token));
  const primary = emails.find((row) => row.primary && row.verified);
  const organisations: string[] = [];
  for (let page = 1; withOrgs && page <= ORG_PAGES; page++) {
    const found = orgsSchema.parse(await get(apiUrl, `/user/orgs?per_page=100&page=${page}`, token));
    organisations.push(...found.map((org) => org.login));
    if (found.length < 100) break;
  }
  return {
    subject: String(id),
    name: printable(login),
    userNames: [login, String(id)],
    email: parseEmail(primary?.email),
    organisations,
  };
}

async function get(apiUrl: string, path: string, token: string): Promise<unknown> {
  const response = await fetch(`${apiUrl}${path}`, {
    headers: { ...HEADERS, authorization: `Bearer ${token}` },
    redirect: "error",
    signal: AbortSignal.timeout(PROVIDER_SECONDS * 1_000),
  });
  if (response.ok) return response.json();
  throw new LoginRefused("provider_failed", `${path.split("?")[0] ?? path} answered ${response.status}`);
}
