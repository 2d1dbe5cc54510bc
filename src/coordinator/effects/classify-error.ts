/**
 * What an error of an effect means for its task.
 *
 * X1 Whatever a repository, a credential or a worker can bring about ends the task or uses up an
 *    attempt. Only what the machine itself lacks (descriptors, processes, memory, room on its disk,
 *    a store that can write) is excused, and only an engine that fails opens the breaker (rule D9).
 * X2 An error that nobody foresaw is a defect: `internal`, which uses up an attempt and is logged
 *    with its stack.
 */
import { errorMessage, SlipwayError } from "../../core/error.ts";
import { TaskFailure, type FailureCode } from "../../core/failure.ts";
import { GitError, isLocalDiskFull, DISK_FULL } from "../../core/lib/git/git-error.ts";
import { ProcessStartError } from "../../core/lib/runtime/process-group.ts";
import type { FailureDetails } from "./failure-proposal.ts";

export interface ClassifiedError extends FailureDetails {
  readonly code: FailureCode;
}

/** System errors of a machine that lacks something, with what an operator does about it. */
const LACKING: Readonly<Record<string, string>> = {
  EMFILE: "The server has no free file descriptor.",
  ENFILE: "The server's machine has no free file descriptor.",
  EAGAIN: "The server's machine can start no further process.",
  ENOMEM: "The server's machine has no free memory.",
  ENOSPC: DISK_FULL,
  EDQUOT: "The server's disk quota is used up.",
  EIO: "The server's disk cannot be read or written.",
  EROFS: "The server's disk is read-only.",
};

export function classifyError(error: unknown): ClassifiedError {
  if (error instanceof TaskFailure) {
    const { code, message: detail, evidence, retryAfterMs } = error;
    return { code, detail, evidence, retryAfterMs };
  }
  const evidence = errorMessage(error);
  const lacking = findLacking(error);
  if (lacking !== null) return { code: "interrupted", detail: lacking, evidence };
  if (error instanceof GitError) {
    const output = error.output.trim() || evidence;
    if (isLocalDiskFull(error)) return { code: "interrupted", detail: DISK_FULL, evidence: output };
    return { code: "repo_incomplete", evidence: output };
  }
  return { code: "internal", evidence };
}

function findLacking(error: unknown): string | null {
  if (error instanceof SlipwayError && error.code === "unavailable") return error.message;
  const isSystemError = error instanceof ProcessStartError || (error instanceof Error && "errno" in error);
  if (!isSystemError || !("code" in error) || typeof error.code !== "string") return null;
  return LACKING[error.code] ?? null;
}
