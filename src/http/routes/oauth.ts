/**
 * The log-in of a program on the wire of OAuth: RFC 8628 for any client, by the rules of the routes
 * of people/log-in/device.ts. Errors are those of the RFCs, in their form.
 */
import type { TokenGrant } from "../../auth/sessions.ts";
import { coerceError } from "../../core/error.ts";
import {
  deviceAuthorizationFormSchema,
  deviceAuthorizationSchema,
  oauthErrorSchema,
  oauthMetadataSchema,
  oauthTokenSchema,
  tokenFormSchema,
  type OauthError,
} from "../../core/protocol/people.ts";
import { readClientInfo } from "../client-info.ts";
import { json, route, MEMORY_REPLAY, type RouteCall, type RouteReply } from "../route.ts";
import { refresh } from "./people/log-in/browser-session.ts";

const DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code";
const REFRESH_GRANT = "refresh_token";
/** Shown to the person who approves; it proves nothing. */
const CLIENT_ID = /^[\w.:/ -]{1,60}$/;

type TokenCall = RouteCall<{ readonly [name in "device_code" | "refresh_token"]?: string | undefined }, unknown>;

/** An error of the RFCs. It is the outcome of the call in the audit log, too. */
function refuse({ act }: Pick<TokenCall, "act">, error: OauthError, description: string): RouteReply {
  if (act !== undefined) act.entry = { ...act.entry, outcome: error };
  return { status: 400, body: { error, error_description: description } };
}

const needsClient = (call: Pick<TokenCall, "act">): RouteReply =>
  refuse(call, "invalid_client", "client_id is needed: the program's name, at most 60 letters, digits and . : / - _");

function toTokens({ accessToken, refreshToken, expiresIn }: TokenGrant): RouteReply {
  const tokens = { access_token: accessToken, expires_in: expiresIn, refresh_token: refreshToken };
  return { status: 200, body: { ...tokens, token_type: "Bearer" } };
}

export const oauthRoutes = [
  route({
    method: "get",
    path: "/.well-known/oauth-authorization-server",
    access: "none",
    operation: "getOauthMetadata",
    summary: "Where programs log in by the rules of OAuth (RFC 8414)",
    answers: { 200: json(oauthMetadataSchema) },
    async handle({ deps }) {
      const issuer = deps.logins.baseUrl;
      const body = {
        issuer,
        device_authorization_endpoint: `${issuer}/v1/oauth/device_authorization`,
        token_endpoint: `${issuer}/v1/oauth/token`,
        grant_types_supported: [DEVICE_GRANT, REFRESH_GRANT],
        response_types_supported: [],
        token_endpoint_auth_methods_supported: ["none"],
      };
      return { status: 200, body };
    },
  }),
  route({
    method: "post",
    path: "/v1/oauth/device_authorization",
    access: "none",
    operation: "startDeviceAuthorization",
    summary: "Begin the log-in of a program (RFC 8628)",
    isForm: true,
    body: deviceAuthorizationFormSchema,
    replay: MEMORY_REPLAY,
    answers: { 200: json(deviceAuthorizationSchema), 400: json(oauthErrorSchema) },
    problems: ["rate_limited"],
    async handle(call) {
      const { deps, body } = call;
      const { client_id: clientId, scope = "" } = body;
      if (clientId === undefined || !CLIENT_ID.test(clientId)) return needsClient(call);
      if (scope !== "") return refuse(call, "invalid_scope", "A log-in may do what its person may: leave scope out.");
      const started = deps.devices.start({ ...readClientInfo(call), device: clientId }, clientId);
      const uri = `${deps.logins.baseUrl}/device`;
      const answer = {
        device_code: started.deviceCode,
        user_code: started.userCode,
        verification_uri: uri,
        // In the fragment, which browsers do not send.
        verification_uri_complete: `${uri}#${started.userCode}`,
        expires_in: started.expiresIn,
        interval: started.interval,
      };
      return { status: 200, body: answer };
    },
  }),
  route({
    method: "post",
    path: "/v1/oauth/token",
    access: "none",
    operation: "exchangeToken",
    summary: "The tokens of a log-in that was approved (RFC 8628), or the next ones (RFC 6749, 6)",
    isForm: true,
    body: tokenFormSchema,
    replay: MEMORY_REPLAY,
    answers: { 200: json(oauthTokenSchema), 400: json(oauthErrorSchema) },
    problems: ["rate_limited"],
    async handle(call) {
      const { client_id: clientId, grant_type: grant } = call.body;
      if (clientId === undefined || !CLIENT_ID.test(clientId)) return needsClient(call);
      if (grant === DEVICE_GRANT) return pollGrant(call, clientId);
      if (grant === REFRESH_GRANT) return refreshGrant(call);
      return refuse(call, "unsupported_grant_type", `Send grant_type ${DEVICE_GRANT} or ${REFRESH_GRANT}.`);
    },
  }),
];

async function pollGrant(call: TokenCall, clientId: string): Promise<RouteReply> {
  const { deps, body, act } = call;
  const { device_code: deviceCode } = body;
  if (deviceCode === undefined) return refuse(call, "invalid_request", "device_code is needed.");
  try {
    const client = { ...readClientInfo(call), device: clientId };
    const polled = await deps.devices.poll(deviceCode, client, clientId);
    if (polled.state === "done") return toTokens(polled.grant);
    // A poll without a result leaves no row in the audit log.
    if (act !== undefined) act.isWritten = true;
    const description = `Ask again in ${polled.interval} s.`;
    const error = polled.isTooSoon ? "slow_down" : "authorization_pending";
    return { status: 400, body: { error, error_description: description } };
  } catch (thrown) {
    const { code, message } = coerceError(thrown);
    if (code === "forbidden") return refuse(call, "access_denied", message);
    // What has expired is forgotten, so a code that never was looks the same.
    if (code === "expired" || code === "unauthenticated") return refuse(call, "expired_token", message);
    throw thrown;
  }
}

async function refreshGrant(call: TokenCall): Promise<RouteReply> {
  const { refresh_token: token } = call.body;
  if (token === undefined) return refuse(call, "invalid_request", "refresh_token is needed.");
  try {
    const tokens = toTokens(await refresh(call, token));
    // Clients do it by themselves, as with the other routes.
    if (call.act !== undefined) call.act.isWritten = true;
    return tokens;
  } catch (thrown) {
    if (coerceError(thrown).code !== "unauthenticated") throw thrown;
    return refuse(call, "invalid_grant", "Log in again: this token is not valid any more.");
  }
}
