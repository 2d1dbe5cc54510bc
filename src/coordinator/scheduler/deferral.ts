/** Why a slot would be of no use to a task now (rule G7). */
import type { Sandbox } from "../../core/ports/sandbox.ts";
import type { Task } from "../../core/task.ts";
import type { BudgetService } from "../services/budget.ts";
import type { DeferralReason } from "./scheduler.ts";

interface DeferralDeps {
  readonly settings: { readonly models: readonly string[] };
  readonly rateLimitedUntil: (model: string) => number | null;
  readonly sandbox: Pick<Sandbox, "isAvailableFor">;
}

/** @returns null when no task is ever deferred. */
export function createDeferral(
  { settings, rateLimitedUntil, sandbox }: DeferralDeps,
  budget: Pick<BudgetService, "isExhausted">,
): ((task: Task) => Promise<DeferralReason | null>) | null {
  if (settings.models.length === 0 && sandbox.isAvailableFor === undefined) return null;
  return async ({ spec, userId }) => {
    if (sandbox.isAvailableFor?.(spec.agent) === false) return "sandbox_unavailable";
    if (spec.agent === "scripted" || settings.models.length === 0) return null;
    if (spec.model !== null && rateLimitedUntil(spec.model) !== null) return "model_rate_limited";
    return (await budget.isExhausted(userId)) ? "budget" : null;
  };
}
