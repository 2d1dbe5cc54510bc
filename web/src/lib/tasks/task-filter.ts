/** The filter of the inbox, as it stands in the address. */
import type { Me } from "../../../../src/client/types.ts";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { formatRepo } from "../format.ts";
import { isOwn } from "./ownership.ts";
import { getGroup } from "./task-view.ts";

export interface TaskFilter {
  readonly q?: string;
  readonly repo?: string;
  /** Only what waits for a person. */
  readonly needs?: true;
  /** Only the person's own; others are listed for operators. */
  readonly mine?: true;
}

/** @param search of the address. */
export function readFilter(search: string): TaskFilter {
  const fields = new URLSearchParams(search);
  const [q, repo] = [fields.get("q"), fields.get("repo")];
  const isSet = (name: string): boolean => fields.get(name) === "true";
  return {
    ...(q === null || q === "" ? {} : { q }),
    ...(repo === null ? {} : { repo }),
    ...(isSet("needs") ? { needs: true as const } : {}),
    ...(isSet("mine") ? { mine: true as const } : {}),
  };
}

const words = (q: string): string[] => q.toLowerCase().split(/\s+/).filter(Boolean);

/** All but the text: the server searches prompts too, which are not in a row. */
export function withoutText({ q: _, ...filter }: TaskFilter): TaskFilter {
  return filter;
}

/** Every word is somewhere in what the row says. */
export function matches(task: WireTask, q: string): boolean {
  const { title, repo, branch, state, failure } = task;
  const text = `${title} ${repo} ${branch} ${state} ${failure?.code ?? ""}`.toLowerCase();
  return words(q).every((word) => text.includes(word));
}

export function filterTasks(
  tasks: readonly WireTask[],
  filter: TaskFilter,
  person: Me | null,
  now: number,
): readonly WireTask[] {
  const { q = "", repo, needs, mine } = filter;
  return tasks.filter(
    (task) =>
      (repo === undefined || formatRepo(task.repo) === repo) &&
      (needs !== true || getGroup(task, now, person) === "needs") &&
      (mine !== true || isOwn(task, person)) &&
      matches(task, q),
  );
}
