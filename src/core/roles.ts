/**
 * What people and tokens may do: the one table that the routes, the documents and the tests read.
 */
import type { Role, Scope } from "./ports/accounts.ts";

/** Which roles may make a call. `none` needs no log-in; `metrics` also callers on the machine. */
export const ACCESS = {
  none: [],
  user: ["user", "operator", "admin"],
  operator: ["operator", "admin"],
  metrics: ["operator", "admin"],
  admin: ["admin"],
} as const satisfies Record<string, readonly Role[]>;
export type Access = keyof typeof ACCESS;

export const ROLES: Readonly<Record<Role, string>> = {
  user: "submits tasks, and sees and changes their own",
  operator: "sees, cancels and kills everybody's tasks, but does not direct them; pauses the queue; sees the machine",
  admin: "what operators do, and people, links and the list of reachable hosts; may direct everybody's tasks",
};

/**
 * What a role may do with tasks of others; with their own everybody does all of it. A task works
 * with its owner's credentials and budget, so to direct it is to act as its owner (rule H12).
 */
export const OTHERS_TASKS = {
  /** See the task, its log, its changes and its artifacts. */
  look: ["operator", "admin"],
  /** Cancel, with or without grace. */
  stop: ["operator", "admin"],
  /** Retry, send and withdraw messages, answer, grant more budget. */
  direct: ["admin"],
  /** Remove a settled one with all that it has. */
  delete: ["admin"],
} as const satisfies Record<string, readonly Role[]>;
export type TaskAct = keyof typeof OTHERS_TASKS;

export function mayWithOthers(role: Role, act: TaskAct): boolean {
  const roles: readonly Role[] = OTHERS_TASKS[act];
  return roles.includes(role);
}

/** What a personal token may be made for. Each scope is independent of the others. */
export const SCOPES: Readonly<Record<Scope, string>> = {
  read: "see tasks, their logs and changes, and watch them",
  submit: "submit, stop, retry and answer tasks",
  operate: "what the person's role allows beyond their own tasks",
};

/**
 * The scope that a call needs of a personal token, unless its route says otherwise; null = no token
 * makes it. Calls about the person themselves (tokens, credentials, sessions, password) say null.
 */
export function scopeOf(access: Access, method: string): Scope | null {
  if (access === "none") return null;
  if (access !== "user") return "operate";
  return method === "get" ? "read" : "submit";
}

/** A token from before there were scopes has all of them. */
export const ALL_SCOPES: readonly Scope[] = ["read", "submit", "operate"];
