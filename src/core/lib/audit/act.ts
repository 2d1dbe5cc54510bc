import type { Act, AuditEntry } from "../../ports/records/audit.ts";

/** What a write of accounts says about the act that it belongs to: who it was, and on what. */
export function describeWrite(name: string, args: readonly unknown[]): Partial<Pick<AuditEntry, "actor" | "target">> {
  const [first, , third] = args as { readonly id?: string; readonly userId?: string }[];
  if (name === "createSession") return { actor: first?.userId ?? null, target: first?.id ?? null };
  if (name === "acceptInvitation") return { actor: third?.id ?? null, target: third?.id ?? null };
  if (name === "deletePerson") return { target: first?.userId ?? null };
  const made = /^(?:create|put)/.test(name) ? first?.id : undefined;
  return made === undefined ? {} : { target: made };
}

/** The row of an act with what its write says; what is known already stays. */
export function entryOf({ entry }: Act, name: string, args: readonly unknown[]): AuditEntry {
  const said = describeWrite(name, args);
  return { ...entry, actor: entry.actor ?? said.actor ?? null, target: entry.target ?? said.target ?? null };
}
