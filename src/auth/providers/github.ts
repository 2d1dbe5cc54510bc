/**
 * GitHub and GitHub Enterprise Server: OAuth with PKCE; who it was for is read from the API. A
 * person is their numeric id: a login can be given to somebody else.
 */
import * as oauth from "openid-client";
import { z } from "zod";
import { parseEmail, type AllowList, type ProviderPerson } from "./allow-list.ts";
import { printable } from "./oidc.ts";
import { LoginRefused, PROVIDER_SECONDS, toRefusal, type Provider } from "./provider.ts";

export interface GithubSettings {
  readonly kind: "github";
  /** Without a slash at the end. */
  readonly url: string;
  readonly apiUrl: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly allow: AllowList;
}

/** Pages of 100 organisations that are read at most. */
const ORG_PAGES = 10;

const userSchema = z.object({ id: z.int().positive(), login: z.string().min(1).max(255) });
const emailsSchema = z.array(z.object({ email: z.string(), primary: z.boolean(), verified: z.boolean() }));
const orgsSchema = z.array(z.object({ login: z.string() }));

export function openGithubProvider({ url, apiUrl, clientId, clientSecret, allow }: GithubSettings): Provider {
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
    async authorize({ redirectUri, state, verifier }) {
      return oauth.buildAuthorizationUrl(config, {
        redirect_uri: redirectUri,
        scope,
        state,
        code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
        code_challenge_method: "S256",
        allow_signup: "false",
      });
    },
    async identify(callback, { state, verifier }) {
      try {
        const checks = { expectedState: state, pkceCodeVerifier: verifier };
        const { access_token: token } = await oauth.authorizationCodeGrant(config, callback, checks);
        return await readPerson(apiUrl, token, allow.needsOrganisations);
      } catch (error) {
        throw toRefusal(error);
      }
    },
  };
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
    headers: { accept: "application/vnd.github+json", authorization: `Bearer ${token}`, "user-agent": "slipway" },
    redirect: "error",
    signal: AbortSignal.timeout(PROVIDER_SECONDS * 1_000),
  });
  if (response.ok) return response.json();
  throw new LoginRefused("provider_failed", `${path.split("?")[0] ?? path} answered ${response.status}`);
}
