/**
 * A provider that checks what oidc-provider and emulate let pass (PKCE, one-time codes, the exact
 * redirect) and that lies on request. It speaks OpenID Connect, and GitHub's OAuth and API.
 */
import { createHash, createSign, generateKeyPairSync, randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text as readText } from "node:stream/consumers";

export interface GithubPerson {
  readonly id: number;
  readonly login: string;
  readonly emails?: readonly { email: string; primary: boolean; verified: boolean }[];
  readonly orgs?: readonly string[];
}

/** What the provider does wrong in the next log-ins. */
export interface Lies {
  readonly issuer?: string;
  readonly claims?: Readonly<Record<string, unknown>>;
  /** Fields of the ID token's header. */
  readonly header?: Readonly<Record<string, unknown>>;
  readonly signWith?: "own" | "other" | "nothing";
  readonly userinfoSubject?: string;
  /** Sent with status 200, as GitHub does. */
  readonly tokenError?: string;
  readonly withoutIdToken?: boolean;
  readonly metadataIssuer?: string;
  /** In place of what was asked for. */
  readonly grantedScope?: string;
  /** GitHub's tokens end after eight hours. */
  readonly expiring?: boolean;
  /** Before the answer to a refresh. */
  readonly onRefresh?: () => Promise<void>;
  /** The API's answer to every question, in place of what was asked. */
  readonly apiStatus?: number;
}

interface Grant {
  readonly challenge: string;
  readonly redirectUri: string;
  readonly nonce: string | null;
  readonly scope: string;
}

export interface StrictProvider {
  readonly url: string;
  lies: Lies;
  person: GithubPerson;
  /** What was wrong with the requests that came. */
  readonly complaints: string[];
  /** GitHub's access tokens, the newest last. */
  readonly issued: string[];
  /** "token" or "grant", and which access token was named. */
  readonly revoked: { readonly what: string; readonly token: string }[];
  close(): Promise<void>;
}

export const CLIENT = { id: "client", secret: "secret" } as const;

const own = generateKeyPairSync("rsa", { modulusLength: 2_048 });
const other = generateKeyPairSync("rsa", { modulusLength: 2_048 });
const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");

class Double implements StrictProvider {
  url = "";
  lies: Lies = {};
  person: GithubPerson = { id: 1, login: "octocat" };
  readonly complaints: string[] = [];
  readonly issued: string[] = [];
  readonly revoked: { what: string; token: string }[] = [];
  /** Each is good once. */
  readonly #refreshTokens = new Map<string, string>();
  readonly #grants = new Map<string, Grant>();
  readonly #server = createServer((request, response) => {
    this.#answer(request, response).catch((error: unknown) => {
      response.statusCode = 500;
      response.end(String(error));
    });
  });

  async open(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    return this;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", this.url);
    const send = (body: unknown, status = 200): void => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    };
    switch (url.pathname) {
      case "/.well-known/openid-configuration":
        return send(this.#metadata());
      case "/jwks":
        return send({ keys: [{ ...own.publicKey.export({ format: "jwk" }), kid: "k", alg: "RS256", use: "sig" }] });
      case "/authorize":
      case "/login/oauth/authorize":
        response.writeHead(302, { location: this.#authorize(url.searchParams) }).end();
        return;
      case "/token":
      case "/login/oauth/access_token":
        return this.#token(url.pathname, new URLSearchParams(await readText(request)), send);
      case "/userinfo":
        return send({ sub: this.lies.userinfoSubject ?? String(this.person.id), ...this.#email() });
      case `/api/v3/applications/${CLIENT.id}/grant`:
      case `/api/v3/applications/${CLIENT.id}/token`:
        return this.#revoke(request, await readText(request), send);
      default:
        return this.#api(url.pathname, send);
    }
  }

  #metadata(): object {
    return {
      issuer: this.lies.metadataIssuer ?? this.url,
      authorization_endpoint: `${this.url}/authorize`,
      token_endpoint: `${this.url}/token`,
      userinfo_endpoint: `${this.url}/userinfo`,
      jwks_uri: `${this.url}/jwks`,
      response_types_supported: ["code"],
      subject_types_supported: ["public"],
      id_token_signing_alg_values_supported: ["RS256"],
      token_endpoint_auth_methods_supported: ["client_secret_post"],
    };
  }

  #authorize(query: URLSearchParams): string {
    const [challenge, redirectUri] = [query.get("code_challenge") ?? "", query.get("redirect_uri") ?? ""];
    if (query.get("code_challenge_method") !== "S256" || challenge.length !== 43) this.complaints.push("no PKCE");
    if ((query.get("state") ?? "").length < 43) this.complaints.push("a short state");
    const code = randomBytes(16).toString("hex");
    this.#grants.set(code, { challenge, redirectUri, nonce: query.get("nonce"), scope: query.get("scope") ?? "" });
    return `${redirectUri}?code=${code}&state=${query.get("state") ?? ""}`;
  }

  async #token(path: string, body: URLSearchParams, send: (body: unknown, status?: number) => void): Promise<void> {
    const isGithub = path.startsWith("/login/");
    const code = body.get("code") ?? "";
    const grant = this.#grants.get(code);
    this.#grants.delete(code);
    const challenge = createHash("sha256")
      .update(body.get("code_verifier") ?? "")
      .digest("base64url");
    const hasSecret = body.get("client_secret") === CLIENT.secret;
    if (this.lies.tokenError !== undefined) return send({ error: this.lies.tokenError, error_description: "No." });
    if (!hasSecret || body.get("client_id") !== CLIENT.id) return send({ error: "invalid_client" }, 401);
    const refreshed = this.#refreshTokens.get(body.get("refresh_token") ?? "");
    if (body.get("grant_type") === "refresh_token" && refreshed !== undefined) {
      this.#refreshTokens.delete(body.get("refresh_token") ?? "");
      await this.lies.onRefresh?.();
      return send(this.#githubToken(refreshed));
    }
    if (body.get("grant_type") === "refresh_token")
      return send({ error: "bad_refresh_token", error_description: "No." });
    if (grant === undefined || grant.challenge !== challenge || grant.redirectUri !== body.get("redirect_uri"))
      return send({ error: "bad_verification_code", error_description: "The code passed is incorrect or expired." });
    if (isGithub) return send(this.#githubToken(grant.scope));
    const token = { access_token: "access", token_type: "bearer", scope: "" };
    return send(this.lies.withoutIdToken === true ? token : { ...token, id_token: this.#idToken(grant.nonce) });
  }

  #githubToken(asked: string): object {
    const [access, refresh] = ["gho", "ghr"].map((kind) => `${kind}_${randomBytes(16).toString("hex")}`) as [
      string,
      string,
    ];
    this.issued.push(access);
    const scope = this.lies.grantedScope ?? asked.replaceAll(" ", ",");
    const token = { access_token: access, token_type: "bearer", scope };
    if (this.lies.expiring !== true) return token;
    this.#refreshTokens.set(refresh, asked);
    return { ...token, expires_in: 28_800, refresh_token: refresh };
  }

  #revoke(request: IncomingMessage, body: string, send: (body: unknown, status?: number) => void): void {
    if (this.lies.apiStatus !== undefined) return send({ message: "No." }, this.lies.apiStatus);
    const basic = `Basic ${Buffer.from(`${CLIENT.id}:${CLIENT.secret}`).toString("base64")}`;
    if (request.method !== "DELETE" || request.headers.authorization !== basic) return send({ message: "No." }, 401);
    const { access_token: token } = JSON.parse(body) as { access_token: string };
    if (!this.issued.includes(token)) return send({ message: "Not found" }, 404);
    this.revoked.push({ what: request.url?.split("/").at(-1) ?? "", token });
    send({}, 200);
  }

  #idToken(nonce: string | null): string {
    const now = Math.floor(Date.now() / 1_000);
    const claims = {
      iss: this.lies.issuer ?? this.url,
      aud: CLIENT.id,
      sub: String(this.person.id),
      iat: now,
      exp: now + 300,
      nonce,
      ...this.lies.claims,
    };
    const head = `${encode({ alg: "RS256", kid: "k", ...this.lies.header })}.${encode(claims)}`;
    if (this.lies.signWith === "nothing") return `${head}.`;
    const key = this.lies.signWith === "other" ? other.privateKey : own.privateKey;
    return `${head}.${createSign("sha256").update(head).sign(key, "base64url")}`;
  }

  #email(): object {
    const primary = this.person.emails?.find((row) => row.primary);
    return primary === undefined ? {} : { email: primary.email, email_verified: primary.verified };
  }

  #api(path: string, send: (body: unknown, status?: number) => void): void {
    if (this.lies.apiStatus !== undefined) return send({ message: "No." }, this.lies.apiStatus);
    const { id, login, emails = [], orgs = [] } = this.person;
    if (path === "/api/v3/user") return send({ id, login, email: "public@example.org" });
    if (path === "/api/v3/user/emails") return send(emails);
    if (path === "/api/v3/user/orgs") return send(orgs.map((name) => ({ login: name })));
    return send({}, 404);
  }
}

export function startStrictProvider(): Promise<StrictProvider> {
  return new Double().open();
}
