/** The schemas of people, their sessions and their log-ins. */
import { z } from "zod";
import { KEY_USES } from "../ports/accounts.ts";
import { sessionSchema } from "./rest.ts";

const time = z.iso.datetime();

/** Why a log-in with a provider did not end in a session. Clients branch on them. */
export const LOGIN_PROBLEMS = [
  "expired",
  "denied",
  "provider_failed",
  "not_proved",
  "misconfigured",
  "not_allowed",
  "unverified_email",
  "email_taken",
  "linked_elsewhere",
  "disabled",
  "fresh_login_required",
] as const;
export type LoginProblem = (typeof LOGIN_PROBLEMS)[number];

/** Providers that this server accepts log-ins of. */
export const providersSchema = z.strictObject({
  items: z.array(
    z.strictObject({
      id: z.string(),
      name: z.string(),
      startUrl: z.string(),
      gitHost: z
        .string()
        .nullable()
        .describe("The git host that a grant of this provider opens (`git` of the start); null = none."),
    }),
  ),
  /** Where browsers can use passkeys; null = there are none at the configured address. */
  passkeys: z.strictObject({ origin: z.string() }).nullable(),
});
export type LoginProvider = z.infer<typeof providersSchema>["items"][number];

/** A path of the app, where the log-in ends. */
const pathSchema = z
  .string()
  .max(1_000)
  .regex(/^\/(?![/\\])[\x21-\x7e]*$/, "must be a path of this server");

export const startLoginSchema = z.strictObject({
  next: pathSchema.optional().describe("The path of the app where the log-in ends."),
  link: z
    .enum(["true", "false"])
    .optional()
    .describe("`true` links the provider to the person of this browser's session."),
  git: z
    .enum(["true", "false"])
    .optional()
    .describe("With `link`: `true` also asks for a grant that is the person's git credential for `gitHost`."),
});

export const identitySchema = z.strictObject({
  id: z.string(),
  /** The id of the provider; null = this server no longer accepts its log-ins. */
  provider: z.string().nullable(),
  issuer: z.string(),
  name: z.string(),
  createdAt: time,
  lastUsedAt: time.nullable(),
});

const base64url = (bytes: number) =>
  z
    .string()
    .max(Math.ceil((bytes * 4) / 3))
    .regex(/^[\w-]+$/, "must be base64url");
const ticket = z.string().min(1).max(2_000);
/** Fields that newer browsers add are ignored. */
const credentialFields = {
  id: base64url(1_023),
  rawId: base64url(1_023),
  type: z.literal("public-key"),
  clientExtensionResults: z.looseObject({}),
};
const passkeyNameSchema = z.string().trim().min(1).max(100);

/** `options` goes to `navigator.credentials.create` or `get` as it is (WebAuthn's JSON form). */
export const passkeyStartSchema = z.strictObject({
  /** Sent back with what the browser answers. */
  ticket: z.string(),
  options: z.looseObject({ challenge: z.string() }),
  /** Seconds. */
  expiresIn: z.int(),
});
export const newPasskeySchema = z.strictObject({
  ticket,
  name: passkeyNameSchema.optional().describe("Left out: what the browser says about itself."),
  response: z.object({
    ...credentialFields,
    response: z.object({
      clientDataJSON: base64url(4_000),
      attestationObject: base64url(16_000),
      transports: z
        .array(
          z
            .string()
            .max(20)
            .regex(/^[\w-]+$/),
        )
        .max(10)
        .optional(),
    }),
  }),
});
export const passkeyLoginSchema = z.strictObject({
  ticket,
  response: z.object({
    ...credentialFields,
    response: z.object({
      clientDataJSON: base64url(4_000),
      authenticatorData: base64url(4_000),
      signature: base64url(8_000),
      userHandle: base64url(64),
    }),
  }),
});
export const passkeyChangeSchema = z.strictObject({ name: passkeyNameSchema });
export const passkeySchema = z.strictObject({
  id: z.string(),
  name: z.string(),
  /** False: it was made for another address than people use now. */
  usable: z.boolean(),
  createdAt: time,
  lastUsedAt: time.nullable(),
});

const roleSchema = z.enum(["user", "operator", "admin"]);
const passwordSchema = z.string().min(10).max(1_024);

export const sessionRowSchema = z.strictObject({
  id: z.string(),
  /** What the client said about itself, for example "Firefox on Linux". */
  device: z.string(),
  /** The network address of its last use. */
  address: z.string(),
  createdAt: time,
  lastUsedAt: time,
  expiresAt: time,
  /** True for the session of this request. */
  current: z.boolean(),
});

export const endSessionsSchema = z.strictObject({
  keep: z.enum(["current"]).optional().describe("`current` keeps the session of this request."),
});

export const newPasswordSchema = z.strictObject({
  /** Left out by people who have none. */
  currentPassword: z.string().min(1).max(1_024).optional(),
  newPassword: passwordSchema,
});

/** `keep`: the person's open tasks go on; `cancel`: they are cancelled. */
export const disableSchema = z.strictObject({ tasks: z.enum(["keep", "cancel"]) });
/** What becomes of the person's open tasks; needed while there are any. */
export const deletePersonSchema = z.strictObject({
  tasks: z.enum(["cancel"]).optional().describe("`cancel` cancels the person's open tasks."),
});
export const roleChangeSchema = z.strictObject({ role: roleSchema });

export const newInvitationSchema = z.strictObject({
  role: roleSchema,
  /** Left out: the invited person chooses it. */
  email: z.email().max(254).optional(),
  days: z.int().min(1).max(30).optional(),
});

export const linkSchema = z.strictObject({
  id: z.string(),
  kind: z.enum(["invitation", "password"]),
  email: z.string().nullable(),
  role: roleSchema.nullable(),
  createdAt: time,
  expiresAt: time,
});
/** The answer to the making of a link; no other answer contains its token. */
export const madeLinkSchema = linkSchema.extend({ token: z.string(), url: z.string() });

export const linkTokenSchema = z.strictObject({ token: z.string().min(1).max(200) });
export const linkInfoSchema = linkSchema.omit({ id: true, createdAt: true });
export const acceptLinkSchema = z.strictObject({
  token: z.string().min(1).max(200),
  /** Of an invitation that names none. */
  email: z.email().max(254).optional(),
  password: passwordSchema,
});

/** A row of the audit log. Clients ignore fields of `detail` that they do not know. */
export const auditRowSchema = z.strictObject({
  n: z.int(),
  at: time,
  /** The id of the person; null = unknown. */
  actor: z.string().nullable(),
  via: z.enum(["session", "token", "local", "none", "server"]),
  address: z.string(),
  action: z.string(),
  target: z.string().nullable(),
  outcome: z.string(),
  detail: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])),
  hash: z.string(),
});

export const auditCheckSchema = z.strictObject({
  ok: z.boolean(),
  /** The first thing that does not fit. */
  fault: z.string().nullable(),
  rows: z.int(),
  /** Rows up to this one were removed by the retention. */
  start: z.int(),
  end: z.int(),
  /** Of the last row: keep it elsewhere, and a log that was cut or written anew is found. */
  hash: z.string(),
});

/** A data key: never the key itself. */
export const keySchema = z.strictObject({
  /** In the `kid` of access tokens, and in what is sealed. */
  id: z.string(),
  use: z.enum(KEY_USES),
  state: z.enum(["active", "retired"]),
  createdAt: time,
  retiredAt: time.nullable(),
  /** How many stored values it seals; null for keys that sign. */
  sealed: z.int().nullable(),
});

export const keyRotationSchema = z.strictObject({
  /** Stored values that were sealed again. */
  resealed: z.int(),
  /** Stored values that no key opens. */
  unreadable: z.int(),
  /** The new keys. */
  active: z.array(keySchema),
});

export const deviceStartSchema = z.strictObject({
  /** The secret of the program. */
  deviceCode: z.string(),
  /** What the program shows. */
  userCode: z.string(),
  verificationUrl: z.string(),
  /** With the code in the fragment, for a QR. */
  verificationUrlComplete: z.string(),
  /** Seconds. */
  expiresIn: z.int(),
  /** Seconds between two polls. */
  interval: z.int(),
});
export const deviceCodeSchema = z.strictObject({ deviceCode: z.string().min(1).max(200) });
export const userCodeSchema = z.strictObject({ userCode: z.string().min(1).max(40) });
export const deviceDecisionSchema = userCodeSchema.extend({ allow: z.boolean() });
export const pendingDeviceSchema = z.strictObject({ device: z.string(), address: z.string(), startedAt: time });
/** A one-time link that logs a phone in; no other answer contains its token. */
export const deviceOfferSchema = z.strictObject({ token: z.string(), url: z.string(), expiresIn: z.int() });
export const claimOfferSchema = z.strictObject({ token: z.string().min(1).max(200) });
export const claimedOfferSchema = deviceStartSchema.omit({ verificationUrl: true, verificationUrlComplete: true });
export const deviceOfferStateSchema = z.discriminatedUnion("state", [
  z.strictObject({ state: z.literal("waiting") }),
  pendingDeviceSchema.extend({ state: z.literal("asked"), userCode: z.string() }),
]);

const text = z.string().max(2_000).optional();
/** Forms of RFC 8628 and RFC 6749: what is missing or wrong is said in their words. */
export const deviceAuthorizationFormSchema = z.object({ client_id: text, scope: text });
export const tokenFormSchema = z.object({ grant_type: text, client_id: text, device_code: text, refresh_token: text });
export const deviceAuthorizationSchema = z.strictObject({
  device_code: z.string(),
  user_code: z.string(),
  verification_uri: z.string(),
  verification_uri_complete: z.string(),
  expires_in: z.int(),
  interval: z.int(),
});
export const oauthTokenSchema = z.strictObject({
  access_token: z.string(),
  token_type: z.literal("Bearer"),
  expires_in: z.int(),
  refresh_token: z.string(),
});
export const oauthErrorSchema = z.strictObject({
  error: z.enum([
    "authorization_pending",
    "slow_down",
    "expired_token",
    "access_denied",
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "invalid_scope",
    "unsupported_grant_type",
  ]),
  error_description: z.string(),
});
export type OauthError = z.infer<typeof oauthErrorSchema>["error"];
/** RFC 8414. */
export const oauthMetadataSchema = z.strictObject({
  issuer: z.string(),
  device_authorization_endpoint: z.string(),
  token_endpoint: z.string(),
  grant_types_supported: z.array(z.string()),
  response_types_supported: z.array(z.string()),
  token_endpoint_auth_methods_supported: z.array(z.string()),
});
/** `interval` grows when the program asks too often. */
export const devicePollSchema = z.discriminatedUnion("state", [
  z.strictObject({ state: z.literal("pending"), interval: z.int() }),
  z.strictObject({ state: z.literal("done"), session: sessionSchema }),
]);
