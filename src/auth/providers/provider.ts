/** What a provider is to the log-in, and why one may be refused. */
import * as oauth from "openid-client";
import { errorMessage } from "../../core/error.ts";
import type { LoginProblem } from "../../core/protocol/people.ts";
import type { AllowList, ProviderPerson } from "./allow-list.ts";

/** Seconds that a provider may take for one answer. */
export const PROVIDER_SECONDS = 10;

/** The secrets of one log-in, which only the browser that began it holds. */
export interface LoginSecrets {
  /** Exactly the address that was registered at the provider. */
  readonly redirectUri: string;
  readonly state: string;
  readonly nonce: string;
  readonly verifier: string;
  /** The person also grants what pushes need. */
  readonly withGit: boolean;
}

/** A grant that may be shown to a git host in the place of a token. */
export interface GitGrant {
  readonly accessToken: string;
  /** Good once; null = the access token does not end by itself. */
  readonly refreshToken: string | null;
  /** Epoch ms. */
  readonly expiresAt: number | null;
  /** In the provider's words; null = it does not say. */
  readonly scopes: readonly string[] | null;
}

/** The git host of a provider whose grants it takes. */
export interface GitSource {
  /** As repository addresses have it. */
  readonly host: string;
  /** @throws LoginRefused `expired` when the token is not taken any more. */
  refresh(refreshToken: string): Promise<GitGrant>;
  /**
   * Takes a token back; `all` takes back every token that the person granted to this server.
   * Idempotent.
   */
  revoke(accessToken: string, what: "token" | "all"): Promise<void>;
}

export interface Identified {
  readonly person: ProviderPerson;
  /** What was asked for with `withGit`; else null. */
  readonly grant: GitGrant | null;
}

export interface Provider {
  /** In the addresses of the log-in. */
  readonly id: string;
  /** For people to read. */
  readonly name: string;
  /** Names the provider in stored identities. */
  readonly issuer: string;
  readonly allow: AllowList;
  /** Where the browser is sent. @throws when the provider cannot be reached. */
  authorize(secrets: LoginSecrets): Promise<URL>;
  /** Null = its grants open no git host. */
  readonly git: GitSource | null;
  /**
   * Exchanges the code of the callback and asks who it was for. @throws LoginRefused, and other
   * errors when the provider cannot be reached.
   */
  identify(callback: URL, secrets: LoginSecrets): Promise<Identified>;
}

/** A log-in that the provider or a check of its answer refused. */
export class LoginRefused extends Error {
  readonly problem: LoginProblem;

  /** @param detail for the operator's log; contains no secret. */
  constructor(problem: LoginProblem, detail: string, cause?: unknown) {
    super(detail, { cause });
    this.name = "LoginRefused";
    this.problem = problem;
  }
}

const OF_THE_OPERATOR = new Set([
  "invalid_client",
  "unauthorized_client",
  "incorrect_client_credentials",
  "redirect_uri_mismatch",
  "invalid_scope",
  "application_suspended",
]);
const OF_THE_CODE = new Set(["invalid_grant", "bad_verification_code", "bad_refresh_token", "expired_token"]);

/** Maps what openid-client throws; errors of the network are returned as they are. */
export function toRefusal(error: unknown): unknown {
  if (error instanceof oauth.AuthorizationResponseError) {
    const problem = error.error === "access_denied" ? "denied" : fromCode(error.error);
    return new LoginRefused(problem, describe(error.error, error.error_description), error);
  }
  if (error instanceof oauth.ResponseBodyError)
    return new LoginRefused(fromCode(error.error), describe(error.error, error.error_description), error);
  if (error instanceof oauth.ClientError && error.code !== "OAUTH_TIMEOUT")
    return new LoginRefused("not_proved", rootMessage(error), error);
  return error;
}

function fromCode(code: string): LoginProblem {
  if (OF_THE_OPERATOR.has(code)) return "misconfigured";
  return OF_THE_CODE.has(code) ? "expired" : "provider_failed";
}

function describe(code: string, description: string | undefined): string {
  return (description === undefined ? code : `${code}: ${description}`).slice(0, 300);
}

/** openid-client wraps the check that failed. */
function rootMessage(error: Error): string {
  return (error.cause instanceof Error ? `${error.message}: ${errorMessage(error.cause)}` : error.message).slice(
    0,
    300,
  );
}
