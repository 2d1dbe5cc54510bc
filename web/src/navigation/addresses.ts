/** The addresses of the app. */
import type { TaskFilter } from "../lib/tasks/task-filter.ts";

type View = "changes" | "thread" | "machine";

/** @param view absent = the conversation. */
export const taskAddress = (id: string, view?: View): string =>
  view === undefined ? `/tasks/${id}` : `/tasks/${id}/${view}`;

/** The inbox with what of it is shown. */
export function inboxAddress({ q, ...filter }: TaskFilter): string {
  const set = Object.entries({ q: q === "" ? undefined : q, ...filter }).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, String(value)]],
  );
  return set.length === 0 ? "/" : `/?${new URLSearchParams(set).toString()}`;
}

/** @param next where the person goes on; absent = the inbox. */
export const loginAddress = (next?: string): string =>
  next === undefined ? "/login" : `/login?${new URLSearchParams({ next }).toString()}`;
