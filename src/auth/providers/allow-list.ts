/**
 * The people who may log in with a provider. With an empty list only people who linked it before
 * can log in.
 */
import { z } from "zod";

const emailSchema = z.email().max(254);

/** A person as the provider described them in this log-in. */
export interface ProviderPerson {
  /** The provider's own id of the account; it is never reused. */
  readonly subject: string;
  /** For people to read. */
  readonly name: string;
  /** Names and ids that `user:` entries match. A name may change hands; it never identifies. */
  readonly userNames: readonly string[];
  /** Only when the provider says that it is verified; lower case. */
  readonly email: string | null;
  readonly organisations: readonly string[];
}

export interface AllowList {
  readonly isEmpty: boolean;
  /** True when memberships of organisations must be asked for. */
  readonly needsOrganisations: boolean;
  allows(person: ProviderPerson): boolean;
}

interface Entry {
  readonly kind: "email" | "domain" | "user" | "org";
  readonly value: string;
}

/**
 * Entries: `ann@example.org`, `@example.org` (every verified address of that domain and of no
 * other), `user:octocat`, `org:acme`. All are compared in lower case. Null when the entry is none.
 */
function parseEntry(text: string): Entry | null {
  const entry = text.toLowerCase();
  const named = /^(user|org):([\x21-\x2b\x2d-\x7e]{1,255})$/.exec(entry);
  if (named !== null) return { kind: named[1] === "org" ? "org" : "user", value: named[2] ?? "" };
  if (/^@[a-z0-9-]+(?:\.[a-z0-9-]+)+$/.test(entry)) return { kind: "domain", value: entry.slice(1) };
  return emailSchema.safeParse(entry).success ? { kind: "email", value: entry } : null;
}

/** Null when an entry is not valid. */
export function parseAllowList(entries: readonly string[]): AllowList | null {
  const parsed = entries.map(parseEntry);
  const valid = parsed.filter((entry) => entry !== null);
  if (valid.length < parsed.length) return null;
  const matches = ({ kind, value }: Entry, person: ProviderPerson): boolean => {
    switch (kind) {
      case "email":
        return person.email === value;
      case "domain":
        return person.email !== null && person.email.slice(person.email.lastIndexOf("@") + 1) === value;
      case "user":
        return person.userNames.some((name) => name.toLowerCase() === value);
      case "org":
        return person.organisations.some((name) => name.toLowerCase() === value);
    }
  };
  return {
    isEmpty: valid.length === 0,
    needsOrganisations: valid.some(({ kind }) => kind === "org"),
    allows: (person) => valid.some((entry) => matches(entry, person)),
  };
}

/** The address in lower case, or null when it is none. */
export function parseEmail(value: unknown): string | null {
  const result = emailSchema.safeParse(value);
  return result.success ? result.data.toLowerCase() : null;
}
