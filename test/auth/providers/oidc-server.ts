/** A real OpenID Connect provider (oidc-provider) on a port of its own. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Provider as OidcProvider } from "oidc-provider";
import type { Browser, Page } from "./browser.ts";

export const CLIENT_ID = "slipway";
export const CLIENT_SECRET = "a secret of the client that is long enough";

export interface OidcServer {
  readonly issuer: string;
  /** Claims by subject. */
  readonly people: Map<string, Readonly<Record<string, unknown>>>;
  /** Logs in at the provider's own pages, and stops before the callback is opened. */
  logIn(browser: Browser, page: Page, subject: string, callback: string): Promise<Page>;
  close(): Promise<void>;
}

/**
 * @param redirectUris the registered addresses, asked for at the first request; others are refused.
 */
export async function startOidcServer(redirectUris: () => string[]): Promise<OidcServer> {
  let handle: ReturnType<OidcProvider["callback"]> | null = null;
  const server = createServer((request, response) => void (handle ??= configure())(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const people = new Map<string, Readonly<Record<string, unknown>>>();
  const configure = (): ReturnType<OidcProvider["callback"]> => {
    const provider = new OidcProvider(issuer, {
      clients: [
        {
          client_id: CLIENT_ID,
          client_secret: CLIENT_SECRET,
          redirect_uris: redirectUris(),
          response_types: ["code"],
          grant_types: ["authorization_code"],
        },
      ],
      claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"], groups: ["groups"] },
      scopes: ["openid", "groups"],
      pkce: { required: () => true },
      findAccount: (_context, sub) => {
        const claims = people.get(sub);
        return claims === undefined ? undefined : { accountId: sub, claims: () => ({ sub, ...claims }) };
      },
      cookies: { keys: ["a", "b"] },
    });
    return provider.callback();
  };
  return {
    issuer,
    people,
    async logIn(browser, page, subject, callback) {
      let now = await browser.follow(page, callback);
      for (let forms = 0; now.location === null && forms < 4; forms++) {
        const prompt = /name="prompt" value="(\w+)"/.exec(now.text)?.[1] ?? "";
        now = await browser.follow(await browser.open(now.url, { prompt, login: subject, password: "any" }), callback);
      }
      return now;
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
