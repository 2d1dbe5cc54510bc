/**
 * One error class and one table for the whole product: `code -> HTTP status -> title`.
 * Codes are stable: clients branch on them. A detail says what to do next.
 */

export const ERROR_TABLE = {
  invalid_request: [400, "The request is not valid"],
  invalid_repository: [400, "The repository address is not usable"],
  invalid_branch: [400, "The branch name is not usable"],
  invalid_image: [400, "The name of the image is not usable"],
  image_not_allowed: [400, "That image may not be used here"],
  agent_unavailable: [400, "That agent is not available here"],
  model_unavailable: [400, "That model is not available here"],
  egress_unavailable: [400, "That egress policy is not available here"],
  limits_unavailable: [400, "Those limits are not available here"],
  forge_unavailable: [400, "Pull requests are not available for that repository"],
  unauthenticated: [401, "Authentication is required"],
  invalid_credentials: [401, "E-mail or password is wrong"],
  budget_exceeded: [402, "The budget is used up"],
  forbidden: [403, "Not allowed"],
  not_found: [404, "Not found"],
  method_not_allowed: [405, "Method not allowed"],
  request_timeout: [408, "The request took too long"],
  task_settled: [409, "The task is settled"],
  task_open: [409, "The task is still open"],
  already_answered: [409, "The question was already answered"],
  message_delivered: [409, "The message was already delivered"],
  nothing_to_push: [409, "There is no finished work to push"],
  conflict: [409, "The resource exists already or changed meanwhile"],
  sequence_gap: [409, "Events are missing before this batch"],
  expired: [410, "It is no longer kept"],
  transcript_moved: [409, "The transcript ends elsewhere"],
  stale_attempt: [410, "This attempt is over"],
  payload_too_large: [413, "The request body is too large"],
  transcript_full: [413, "The task's transcript is full"],
  unsupported_media_type: [415, "The request body must be JSON"],
  idempotency_mismatch: [422, "The Idempotency-Key was used with another body"],
  headers_too_large: [431, "The request headers are too large"],
  rate_limited: [429, "Too many requests"],
  internal: [500, "Something went wrong inside Slipway"],
  unavailable: [503, "Slipway is not able to serve this now"],
  config_invalid: [500, "The configuration is wrong"],
  locked: [503, "Another coordinator uses this data folder"],
  newer_schema: [500, "The database was written by a newer Slipway"],
} as const satisfies Record<string, readonly [number, string]>;

export type ErrorCode = keyof typeof ERROR_TABLE;

/** One complaint about one field of a request. */
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

/** A worker's batch that begins after a hole: it must go on from `ack` + 1. */
export class SequenceGap extends SlipwayError {
  readonly ack: number;

  constructor(ack: number) {
    super("sequence_gap", `Send events from ${ack + 1} on.`);
    this.ack = ack;
  }
}

/**
 * Any thrown value as a SlipwayError; what is not one of ours shows as `internal` and keeps its
 * cause.
 */
export function coerceError(thrown: unknown): SlipwayError {
  return thrown instanceof SlipwayError ? thrown : new SlipwayError("internal", undefined, { cause: thrown });
}

/** The message of any thrown value, for logs and evidence. */
export function errorMessage(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** True for the error that an aborted wait rejects with. */
export function isAbort(thrown: unknown): boolean {
  return thrown instanceof Error && (thrown.name === "AbortError" || ("code" in thrown && thrown.code === "ABORT_ERR"));
}
