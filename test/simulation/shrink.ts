/** Leaves out acts of a plan as long as it still breaks the same rule. */
import type { Act } from "./plan.ts";
import { run, type Outcome } from "./run.ts";

/** Runs that a shrink may take. */
const MOST_RUNS = 120;

export async function shrink(outcome: Outcome): Promise<Outcome> {
  const rule = outcome.findings[0]?.rule;
  let best = outcome;
  let runs = 0;
  async function tryWithout(dropped: readonly Act[]): Promise<boolean> {
    runs += 1;
    const acts = best.plan.acts.filter((act) => !dropped.includes(act));
    const next = await run({ ...best.plan, acts });
    if (!next.findings.some((finding) => finding.rule === rule)) return false;
    best = next;
    return true;
  }
  for (let size = Math.ceil(best.plan.acts.length / 2); size >= 1; size = Math.floor(size / 2)) {
    for (let at = 0; at < best.plan.acts.length && runs < MOST_RUNS;)
      if (!(await tryWithout(best.plan.acts.slice(at, at + size)))) at += size;
  }
  return best;
}
