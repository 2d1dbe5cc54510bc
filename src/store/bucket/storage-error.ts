/**
 * Turns a failure of a storage, or its silence, into an error whose message names the next step.
 */
import { errorMessage, SlipwayError } from "../../core/error.ts";

/** What was tried, for people: "write s3://bucket/key". */
interface Attempted {
  readonly what: string;
  readonly bucket: string;
  /** The endpoint, for people. */
  readonly at: string;
}

const BAD_KEY =
  /^(?:InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|ExpiredToken|TokenRefreshRequired|UnrecognizedClientException)/;
const OTHER_REGION = /^(?:PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint|TemporaryRedirect)/;
const FULL = /Full$|QuotaExceeded|InsufficientStorage|InsufficientCapacity|EntityTooLarge/;
const UNREACHABLE = /^(?:ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT)$/;
const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ERR_TLS/;

/**
 * `storage_refused` does not pass by itself, `storage_unavailable` may: it is tried again. Other
 * errors of Slipway and aborts are returned as they are.
 */
export function toStorageError(error: unknown, attempted: Attempted): Error {
  if (error instanceof SlipwayError) return error;
  if (error instanceof Error && error.name === "AbortError") return error;
  const name = error instanceof Error ? error.name : "";
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const refusal = explainRefusal(name, code, statusOf(error), attempted);
  if (refusal !== null)
    return new SlipwayError("storage_refused", `Slipway could not ${attempted.what}: ${refusal}`, { cause: error });
  const words = explainFailure(error, code, attempted);
  return new SlipwayError("storage_unavailable", `Slipway could not ${attempted.what}: ${words}`, { cause: error });
}

function explainRefusal(name: string, code: string, status: number | null, { bucket, at }: Attempted): string | null {
  if (name === "NoSuchBucket") return `there is no bucket ${bucket} at ${at}. Create it, or correct the address.`;
  if (BAD_KEY.test(name))
    return `${at} does not accept the key (${name}). Check SLIPWAY_S3_ACCESS_KEY_ID and its secret.`;
  if (name === "RequestTimeTooSkewed") return "this machine's clock is wrong. Set it, then try again.";
  if (OTHER_REGION.test(name) || status === 301)
    return `the bucket ${bucket} is in another region. Set SLIPWAY_S3_REGION, or SLIPWAY_S3_ENDPOINT.`;
  if (FULL.test(name) || status === 507)
    return `the storage is full (${name}). Remove what nobody needs, or raise its quota.`;
  if (CERTIFICATE.test(code))
    return `the certificate of ${at} is not trusted (${code}). Name its authority with NODE_EXTRA_CA_CERTS.`;
  if (status === 403 || status === 401)
    return `the key may not do that (${name}). It needs to list the bucket ${bucket}, and to read, write and delete in it.`;
  return null;
}

function explainFailure(error: unknown, code: string, { at }: Attempted): string {
  const status = statusOf(error);
  const next = "It is tried again; see whether the storage works if that goes on.";
  if (UNREACHABLE.test(code)) return `${at} cannot be reached (${code}). Start it, or correct SLIPWAY_S3_ENDPOINT.`;
  if (status !== null && status >= 400) return `${at} answered ${status} ${(error as Error).name}. ${next}`;
  return `${at} did not answer in full (${code === "" ? errorMessage(error).slice(0, 200) : code}). ${next}`;
}

export function statusOf(error: unknown): number | null {
  if (!(error instanceof Error) || !("$metadata" in error)) return null;
  const { httpStatusCode } = error.$metadata as { httpStatusCode?: number };
  return httpStatusCode ?? null;
}
