/**
 * The error class of the product and its catalogue: `code -> HTTP status, title`. Codes are stable:
 * clients branch on them. A detail states what to do next.
 */

export const ERROR_TABLE = {
  invalid_request: [400, "The request is not valid"],
  invalid_repository: [400, "The repository address is not valid"],
  invalid_branch: [400, "The branch name is not valid"],
  invalid_image: [400, "The image name is not valid"],
  image_not_allowed: [400, "The image is not allowed on this server"],
  agent_unavailable: [400, "The agent is not available on this server"],
  model_unavailable: [400, "The model is not available on this server"],
  egress_unavailable: [400, "The egress policy is not available on this server"],
  limits_unavailable: [400, "The limits are not available on this server"],
  passkeys_unavailable: [400, "Passkeys are not available at this address"],
  forge_unavailable: [400, "Pull requests are not available for the repository"],
  unauthenticated: [401, "Authentication is required"],
  invalid_credentials: [401, "The e-mail or password is wrong"],
  budget_exceeded: [402, "The budget is used up"],
  forbidden: [403, "Not allowed"],
  fresh_login_required: [403, "Log in again: this needs a log-in of the last ten minutes"],
  passkey_refused: [403, "The passkey was not accepted"],
  not_found: [404, "Not found"],
  method_not_allowed: [405, "Method not allowed"],
  request_timeout: [408, "The request took too long"],
  task_settled: [409, "The task is settled"],
  task_open: [409, "The task is still open"],
  already_answered: [409, "The question was already answered"],
  question_expired: [409, "The question is not open any more"],
  message_delivered: [409, "The message was already delivered"],
  nothing_to_push: [409, "There is no finished work to push"],
  conflict: [409, "The resource already exists or has changed"],
  sequence_gap: [409, "Events are missing before this batch"],
  expired: [410, "The resource has expired"],
  transcript_moved: [409, "The transcript record number is not the next one"],
  stale_attempt: [410, "This attempt is over"],
  payload_too_large: [413, "The request body is too large"],
  attachments_full: [413, "There is no room for more attachments"],
  transcript_full: [413, "The task's transcript is full"],
  unsupported_media_type: [415, "The request body must be JSON"],
  credential_refused: [422, "The host does not accept the credential"],
  idempotency_mismatch: [422, "The Idempotency-Key was used with another body"],
  headers_too_large: [431, "The request headers are too large"],
  quota_exceeded: [429, "A quota is used up"],
  rate_limited: [429, "Too many requests"],
  internal: [500, "Slipway had an internal error"],
  unavailable: [503, "Slipway cannot handle the request now"],
  storage_unavailable: [503, "The object storage cannot be used now"],
  storage_refused: [503, "The object storage refuses what Slipway needs"],
  config_invalid: [500, "The configuration is not valid"],
  locked: [503, "Another coordinator uses this data folder"],
  newer_schema: [500, "The database was written by a newer Slipway"],
} as const satisfies Record<string, readonly [number, string]>;

export type ErrorCode = keyof typeof ERROR_TABLE;

/** One invalid field of a request. */
export interface FieldError {
  readonly path: string;
  readonly message: string;
}

export class SlipwayError extends Error {
  readonly code: ErrorCode;
  readonly errors: readonly FieldError[] | undefined;

  constructor(code: ErrorCode, detail?: string, options?: { cause?: unknown; errors?: readonly FieldError[] }) {
    super(detail ?? ERROR_TABLE[code][1], options?.cause === undefined ? undefined : { cause: options.cause });
    this.name = "SlipwayError";
    this.code = code;
    this.errors = options?.errors;
  }

  get status(): number {
    return ERROR_TABLE[this.code][0];
  }

  get title(): string {
    return ERROR_TABLE[this.code][1];
  }
}

/** Too many tries: the answer says after how many seconds the next one may be made. */
export class RateLimited extends SlipwayError {
  readonly retryAfterSeconds: number;

  constructor(waitMs: number) {
    const seconds = Math.max(1, Math.ceil(waitMs / 1_000));
    super("rate_limited", `Try again in ${seconds} s.`);
    this.retryAfterSeconds = seconds;
  }
}

/** The answer names the quota in `errors`, and says when it has room again. */
export class QuotaExceeded extends SlipwayError {
  /** Null = no time brings that about. */
  readonly retryAfterSeconds: number | null;

  constructor(quota: string, detail: string, waitMs: number | null) {
    super("quota_exceeded", detail, { errors: [{ path: quota, message: "is used up" }] });
    this.retryAfterSeconds = waitMs === null ? null : Math.max(1, Math.ceil(waitMs / 1_000));
  }
}

/** Events are missing before a worker's batch: the worker must resend from `ack` + 1. */
export class SequenceGap extends SlipwayError {
  readonly ack: number;

  constructor(ack: number) {
    super("sequence_gap", `Send the events from ${ack + 1} on.`);
    this.ack = ack;
  }
}

/** Converts any thrown value; everything but a SlipwayError becomes `internal` with a cause. */
export function coerceError(thrown: unknown): SlipwayError {
  return thrown instanceof SlipwayError ? thrown : new SlipwayError("internal", undefined, { cause: thrown });
}

/** The message of any thrown value. */
export function errorMessage(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** True for the error that an aborted wait rejects with. */
export function isAbort(thrown: unknown): boolean {
  return thrown instanceof Error && (thrown.name === "AbortError" || ("code" in thrown && thrown.code === "ABORT_ERR"));
}
