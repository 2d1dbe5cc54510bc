/** Whose task it is: the owner directs it, and so do admins; operators look and stop (rule H12). */
import type { Me } from "../../../../src/client/types.ts";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";

/** Without a person: as the one who sees the task. */
export function isOwn({ owner }: WireTask, person: Me | null): boolean {
  return person === null || owner.id === person.id;
}

/** For its owner only. Rows that this device kept from an earlier version are read. */
export function isUnread(task: WireTask, person: Me | null): boolean {
  return isOwn(task, person) && task.notableSeq > task.readSeq;
}

/** Messages, answers, retries and budgets. */
export function mayDirect(task: WireTask, person: Me | null): boolean {
  return isOwn(task, person) || person?.role === "admin";
}

/** @param id of a person in the log of the task. */
export function nameOf(id: string | null, { owner, submittedBy }: WireTask, person: Me | null): string {
  if (id === null || id === person?.id) return "You";
  return [owner, submittedBy].find((known) => known.id === id)?.email ?? "Another person";
}
