/** Maps what was thrown in a stage to a failure code of src/core/failure.ts. */
import type { AttemptFailure, AttemptStage } from "../../machines/attempt.ts";
import { errorMessage } from "../../src/core/error.ts";
import { TaskFailure } from "../../src/core/failure.ts";
import { isDiskFullError, isDiskFullMessage } from "../../src/core/lib/disk/disk-full.ts";
import { GitError } from "../../src/core/lib/git/git-error.ts";
import { AgentFailure } from "../agents/agent.ts";
import { Unreachable } from "../workspace/workspace.ts";

/**
 * A failure before the agent has started is never an `agent_error`: the coordinator may retry it
 * without limit.
 */
export function toAttemptFailure(thrown: unknown, stage: AttemptStage): AttemptFailure {
  if (thrown instanceof AgentFailure || thrown instanceof TaskFailure) {
    return { code: thrown.code, message: thrown.message, evidence: thrown.evidence };
  }
  const evidence = thrown instanceof GitError || thrown instanceof Unreachable ? thrown.output : null;
  const message = errorMessage(thrown);
  if (isDiskFullError(thrown) || isDiskFullMessage(evidence ?? "")) return { code: "disk_full", message, evidence };
  if (stage === "clone")
    return { code: thrown instanceof Unreachable ? "repo_unreachable" : "internal", message, evidence };
  return { code: stage === "setup" ? "internal" : "agent_error", message, evidence };
}
