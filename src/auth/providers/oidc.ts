/**
 * OpenID Connect: discovery, authorization code with PKCE, and the ID token. openid-client checks
 * the issuer, audience, signature, times, nonce and state.
 */
import * as oauth from "openid-client";
import { parseEmail, type AllowList, type ProviderPerson } from "./allow-list.ts";
import { LoginRefused, PROVIDER_SECONDS, toRefusal, type LoginSecrets, type Provider } from "./provider.ts";

export interface OidcSettings {
  readonly kind: "oidc";
  readonly id: string;
  readonly name: string;
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly scopes: string;
  readonly allow: AllowList;
}

/** The provider's metadata is read again after this, ms. */
const METADATA_MS = 60 * 60_000;

export function openOidcProvider(settings: OidcSettings, now: () => number): Provider {
  const { id, name, issuer, clientId, allow, scopes } = settings;
  let known: { readonly config: Promise<oauth.Configuration>; readonly until: number } | null = null;
  const configuration = (): Promise<oauth.Configuration> => {
    if (known !== null && known.until > now()) return known.config;
    const config = discover(settings);
    known = { config, until: now() + METADATA_MS };
    config.catch(() => (known = null));
    return config;
  };
  return {
    id,
    name,
    issuer,
    allow,
    async authorize({ redirectUri, state, nonce, verifier }) {
      return oauth.buildAuthorizationUrl(await configuration(), {
        redirect_uri: redirectUri,
        scope: scopes,
        state,
        nonce,
        code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
        code_challenge_method: "S256",
      });
    },
    git: null,
    async identify(callback, secrets) {
      try {
        return { person: await identify(await configuration(), clientId, callback, secrets), grant: null };
      } catch (error) {
        throw toRefusal(error);
      }
    },
  };
}

async function discover({ issuer, clientId, clientSecret }: OidcSettings): Promise<oauth.Configuration> {
  // Plain http is accepted for a provider on this machine only; the settings are read so.
  const insecure = new URL(issuer).protocol === "http:" ? [oauth.allowInsecureRequests] : [];
  const found = await oauth.discovery(new URL(issuer), clientId, undefined, oauth.None(), {
    execute: insecure,
    timeout: PROVIDER_SECONDS,
  });
  const metadata = found.serverMetadata();
  // The default of the specification, when the provider names no method, is Basic.
  const methods = metadata.token_endpoint_auth_methods_supported ?? ["client_secret_basic"];
  const auth = methods.includes("client_secret_basic")
    ? oauth.ClientSecretBasic(clientSecret)
    : oauth.ClientSecretPost(clientSecret);
  const config = new oauth.Configuration(metadata, clientId, undefined, auth);
  config.timeout = PROVIDER_SECONDS;
  // Without this the library trusts the connection and leaves the ID token's signature unchecked.
  oauth.enableNonRepudiationChecks(config);
  for (const apply of insecure) apply(config);
  return config;
}

async function identify(
  config: oauth.Configuration,
  clientId: string,
  callback: URL,
  { state, nonce, verifier }: LoginSecrets,
): Promise<ProviderPerson> {
  const tokens = await oauth.authorizationCodeGrant(config, callback, {
    expectedState: state,
    expectedNonce: nonce,
    pkceCodeVerifier: verifier,
    idTokenExpected: true,
  });
  const claims = tokens.claims();
  if (claims === undefined) throw new LoginRefused("not_proved", "the provider sent no ID token");
  // `azp` names the client that requested the token.
  if (claims.azp !== undefined && claims.azp !== clientId)
    throw new LoginRefused("not_proved", "the ID token was made for another client");
  const wantsMore = claims["email"] === undefined && config.serverMetadata().userinfo_endpoint !== undefined;
  const more = wantsMore ? await oauth.fetchUserInfo(config, tokens.access_token, claims.sub) : {};
  return toPerson(claims.sub, { ...more, ...claims });
}

function toPerson(subject: string, claims: Readonly<Record<string, unknown>>): ProviderPerson {
  const email = claims["email_verified"] === true ? parseEmail(claims["email"]) : null;
  const groups = [claims["groups"], claims["organizations"]].flatMap((value) => (Array.isArray(value) ? value : []));
  const name = [claims["email"], claims["preferred_username"], claims["name"], subject].find(
    (value) => typeof value === "string" && value !== "",
  );
  return {
    subject,
    name: printable(String(name)),
    userNames: [subject],
    email,
    organisations: groups.filter((group): group is string => typeof group === "string"),
  };
}

/** A name from outside, as one short line. */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}]/gu, "").slice(0, 200);
}
