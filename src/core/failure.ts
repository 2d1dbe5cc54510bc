/**
 * The catalogue of failures of an attempt: code -> class, message, advice. The class selects the
 * retry policy (machines/task.ts).
 */
import { z } from "zod";

export const FAILURE_CLASSES = ["infra", "transient", "resource", "agent", "terminal"] as const;
export type FailureClass = (typeof FAILURE_CLASSES)[number];

interface Row {
  readonly class: FailureClass;
  readonly message: string;
  readonly advice: string;
}

const row = (cls: FailureClass, message: string, advice: string): Row => ({ class: cls, message, advice });

/**
 * The texts are part of stored snapshots, and folding a log again must give the same bytes:
 * changing one is a change of the statechart and needs a new machine version
 * (test/machines/fixtures).
 */
export const FAILURE_TABLE = {
  sandbox_unavailable: row(
    "infra",
    "The sandbox engine does not answer.",
    "Slipway tries again by itself. An operator can run `slipway doctor`.",
  ),
  interrupted: row(
    "infra",
    "The attempt was interrupted from outside.",
    "Slipway starts it again by itself; no attempt was used up.",
  ),
  internal: row(
    "infra",
    "Slipway itself made a mistake.",
    "Slipway tries again by itself. The server's log holds the cause.",
  ),
  boot_timeout: row(
    "transient",
    "The sandbox did not become ready in time.",
    "Slipway tries again. If it persists, look at the steps to see which one hangs.",
  ),
  repo_unreachable: row(
    "transient",
    "The repository's host did not answer.",
    "Check that the address is reachable from the server.",
  ),
  repo_incomplete: row(
    "transient",
    "Objects are missing in this server's copy of the repository.",
    "Slipway fetches the repository again by itself. If it persists, run `slipway doctor`.",
  ),
  worker_lost: row(
    "transient",
    "The worker stopped without a report.",
    "Slipway starts again from the last checkpoint.",
  ),
  stalled: row(
    "transient",
    "The worker showed no activity for too long.",
    "Slipway starts again from the last checkpoint.",
  ),
  model_overloaded: row("transient", "The model provider is overloaded.", "Slipway tries again later by itself."),
  remote_unreachable: row(
    "transient",
    "The push did not reach the repository's host.",
    "The work is safe. Slipway pushes again; you can also retry from `push`.",
  ),
  forge_unreachable: row(
    "transient",
    "The forge did not answer the request for a pull request.",
    "The branch is pushed. Slipway asks again; you can also retry from `push`.",
  ),
  forge_rate_limited: row(
    "transient",
    "The forge accepts no more requests for now.",
    "The branch is pushed. Slipway asks again when the forge allows it; you can also retry from `push` later.",
  ),
  image_pull_failed: row(
    "transient",
    "The sandbox image could not be pulled.",
    "Check the registry's address and the engine's network.",
  ),
  out_of_memory: row(
    "resource",
    "The sandbox ran out of memory.",
    "Slipway tries once more with double memory if the limit allows. Raise `limits.memoryMb`.",
  ),
  disk_full: row("resource", "The sandbox ran out of disk space.", "Raise `limits.diskMb`, or choose a smaller job."),
  agent_error: row(
    "agent",
    "The agent ended with an error.",
    "Slipway tries once more from the last checkpoint. See the evidence.",
  ),
  repo_not_found: row(
    "terminal",
    "The repository does not exist or is not visible with this credential.",
    "Check the address, and add a git credential for the host if the repository is private.",
  ),
  repo_auth: row(
    "terminal",
    "The repository refused the credential.",
    "Add or replace the git credential for this host (POST /v1/credentials), then retry.",
  ),
  branch_not_found: row(
    "terminal",
    "The base branch does not exist.",
    "Name a branch that exists upstream, or leave `base` out for the default branch.",
  ),
  repo_too_large: row(
    "terminal",
    "The repository, or what its host sends, is larger than this server allows.",
    "Use a smaller repository, or ask an operator to raise SLIPWAY_MAX_REPO_MB or SLIPWAY_GIT_MEMORY_MB.",
  ),
  image_missing: row(
    "terminal",
    "The sandbox image cannot be used.",
    'Name an image that exists and has glibc 2.28 or newer, git and bash, or submit with `image: "default"` for Slipway\'s own.',
  ),
  image_not_allowed: row(
    "terminal",
    "The image may not be used on this server.",
    'An operator can add it to SLIPWAY_IMAGES. Or submit with `image: "default"` for Slipway\'s own image.',
  ),
  model_auth: row("terminal", "The model provider refused the key.", "Set a valid model key on the server."),
  model_quota: row("terminal", "The model account has no quota left.", "Raise the account's limit, then retry."),
  program_auth: row(
    "terminal",
    "The agent's program has no login.",
    "Give the program its model in the image or by the gateway (docs/agents.md), or choose another agent.",
  ),
  refused: row("terminal", "The model refused the task.", "Rephrase the prompt."),
  agent_stuck: row(
    "terminal",
    "The agent went in circles and was stopped.",
    "Retry from the checkpoint with a narrower prompt.",
  ),
  deadline_exceeded: row(
    "terminal",
    "The task used up its time.",
    "Retry from the checkpoint with more `budget.minutes`.",
  ),
  budget_exceeded: row("terminal", "The task used up its budget.", "Retry from the checkpoint with a larger budget."),
  push_rejected: row(
    "terminal",
    "The repository refused the branch.",
    "The work is safe: see the diff. The branch may be protected or may have moved; retry from `push`, or with another branch.",
  ),
  push_auth: row(
    "terminal",
    "The repository refused the credential on push.",
    "Give the credential write access (contents: write), then retry from `push`.",
  ),
  push_workflow_scope: row(
    "terminal",
    "The credential may not change workflow files.",
    "Grant the `workflow` scope or undo the change under .github/workflows, then retry from `push`.",
  ),
  pull_request_auth: row(
    "terminal",
    "The forge refused the credential for the pull request.",
    "The branch is pushed. Let the git credential of this host open pull requests, then retry from `push`.",
  ),
  pull_request_rejected: row(
    "terminal",
    "The forge refused the pull request.",
    "The branch is pushed. Remove the cause and retry from `push`, or open the pull request on the forge.",
  ),
  push_forbidden: row(
    "terminal",
    "The credential may not push to this repository, so nothing was started.",
    "Give the credential write access (contents: write), then retry from `start`. For a change that is only shown as a diff, submit with `checkPush: false`.",
  ),
  branch_conflict: row(
    "terminal",
    "The branch has the work of others, so nothing was started.",
    "The message says how to go on: on top of that work, or on another branch.",
  ),
  set_aside: row(
    "terminal",
    "This Slipway cannot read what is stored of the task, so the task is set aside.",
    "Nothing of it was changed. An operator can run `slipway doctor --repair`, or start the newer Slipway that wrote it. Or retry from `start`.",
  ),
  push_held: row(
    "terminal",
    "The push was held back because of what is in the change, and was not released.",
    "The work is safe: see the diff. Retry from `push` to decide again, or from `checkpoint` to have it removed.",
  ),
  queue_expired: row(
    "terminal",
    "The task waited in the queue for too long.",
    "Retry when there is more capacity, or raise SLIPWAY_MAX_CONCURRENT.",
  ),
  attempts_exhausted: row(
    "terminal",
    "Every attempt failed.",
    "The evidence shows the last failure. Retry from `checkpoint` or `start`.",
  ),
} as const satisfies Record<string, Row>;

export type FailureCode = keyof typeof FAILURE_TABLE;
export const FAILURE_CODES = Object.keys(FAILURE_TABLE) as [FailureCode, ...FailureCode[]];

export const FAILURE_STAGES = ["queued", "provisioning", "running", "pushing"] as const;
export type FailureStage = (typeof FAILURE_STAGES)[number];

/**
 * A failure as users see it. `evidence` is the end of the relevant log, at most 4,000 characters.
 */
export const failureSchema = z.strictObject({
  code: z.enum(FAILURE_CODES),
  stage: z.enum(FAILURE_STAGES),
  message: z.string(),
  advice: z.string(),
  evidence: z.string().nullable(),
  retryable: z.boolean(),
});
export type Failure = z.infer<typeof failureSchema>;

export const EVIDENCE_LIMIT = 4_000;

/**
 * Codes that a worker may report; any other code becomes `agent_error`. Codes of class `infra` are
 * excluded: they are retried without counting, and enough of them pause claiming for all users.
 */
export const WORKER_FAILURES: ReadonlySet<string> = new Set<FailureCode>([
  "agent_error",
  "refused",
  "agent_stuck",
  "deadline_exceeded",
  "budget_exceeded",
  "disk_full",
  "model_auth",
  "model_quota",
  "program_auth",
  "model_overloaded",
  "repo_unreachable",
  "repo_incomplete",
]);

export function failureClass(code: FailureCode): FailureClass {
  return FAILURE_TABLE[code].class;
}

/** Builds a failure. `detail` is appended to the catalogue's message. */
export function makeFailure(
  code: FailureCode,
  stage: FailureStage,
  detail?: string | null,
  evidence?: string | null,
): Failure {
  const { message, advice } = FAILURE_TABLE[code];
  return {
    code,
    stage,
    message: detail ? `${message} ${detail}`.slice(0, 1_000) : message,
    advice,
    evidence: evidence ? evidence.slice(-EVIDENCE_LIMIT) : null,
    retryable: failureClass(code) !== "terminal",
  };
}

/**
 * Advice in place of the catalogue's, which logs fold to for ever: its text cannot be changed there
 * without every stored task differing from its fold (rule T1).
 */
const BETTER_ADVICE: Readonly<Partial<Record<FailureCode, string>>> = {
  push_rejected:
    "The work is safe: see the diff. If the branch has moved, retry from `checkpoint`, which goes on on top of what others pushed. If it is protected, lift that and retry from `push`, or submit the task for another branch.",
};

/** The failure as people read it. */
export function withBetterAdvice(failure: Failure): Failure {
  const advice = BETTER_ADVICE[failure.code];
  return advice === undefined ? failure : { ...failure, advice };
}

/** Thrown by adapters that can classify a failure; effects convert it into a `failed` event. */
export class TaskFailure extends Error {
  readonly code: FailureCode;
  readonly evidence: string | null;
  /** Wait in ms that the remote side requested; null when it requested none. */
  readonly retryAfterMs: number | null;

  constructor(
    code: FailureCode,
    options?: { detail?: string; evidence?: string; retryAfterMs?: number; cause?: unknown },
  ) {
    super(options?.detail ?? "", options?.cause === undefined ? undefined : { cause: options.cause });
    this.name = "TaskFailure";
    this.code = code;
    this.evidence = options?.evidence ?? null;
    this.retryAfterMs = options?.retryAfterMs ?? null;
  }
}
