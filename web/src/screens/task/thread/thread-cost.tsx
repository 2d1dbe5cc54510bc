/** What the tasks of a thread cost together, among the facts of one of them. */
import type { WireTask } from "../../../../../src/core/protocol/rest.ts";
import { describeThreadBudget } from "../../../lib/tasks/task-view.ts";

export function ThreadCost({ task }: { task: WireTask }) {
  const budget = describeThreadBudget(task);
  if (budget === "") return null;
  return (
    <>
      <dt>Thread</dt>
      <dd>{budget}</dd>
    </>
  );
}
