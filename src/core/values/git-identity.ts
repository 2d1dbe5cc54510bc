/** Who git names as the author of a commit. */
import { z } from "zod";

/** No control character, so that a name cannot begin a line of its own in a commit. */
const NAME = /^[^<>\p{Cc}]{1,100}$/u;
const EMAIL = /^[^<>\s\p{Cc}@]{1,200}@[^<>\s\p{Cc}@]{1,250}$/u;

export const gitIdentitySchema = z.strictObject({ name: z.string().regex(NAME), email: z.string().regex(EMAIL) });
export type GitIdentity = z.infer<typeof gitIdentitySchema>;

/** The author of commits where the operator names no other. */
export const SLIPWAY: GitIdentity = { name: "Slipway", email: "agent@slipway.invalid" };

/** How commits name a person who asked for the work. */
export const commitIdentitySchema = gitIdentitySchema.extend({
  /** `installation` = as SLIPWAY_GIT_AUTHOR says: the person is the author, or beside it. */
  as: z.enum(["author", "installation"]).default("installation"),
});
export type CommitIdentity = z.infer<typeof commitIdentitySchema>;

/** The key of the setting that holds what a person chose. */
export const commitIdentityKey = (userId: string): string => `git_identity.${userId}`;

/** Null = the person chose nothing. */
export function readCommitIdentity(stored: string | null): CommitIdentity | null {
  return stored === null ? null : commitIdentitySchema.parse(JSON.parse(stored));
}

/** Parses `Name <e-mail>`; null for anything else. */
export function parseGitIdentity(text: string): GitIdentity | null {
  const [, name = "", email = ""] = /^\s*(\S.*?)\s*<([^<>]*)>\s*$/s.exec(text) ?? [];
  const parsed = gitIdentitySchema.safeParse({ name, email });
  return parsed.success ? parsed.data : null;
}

/** A person of whom only the e-mail address is known; null where no host could receive mail. */
export function identityOfEmail(email: string): GitIdentity | null {
  const [name = "", host = ""] = email.split("@");
  return host.includes(".") ? (gitIdentitySchema.safeParse({ name, email }).data ?? null) : null;
}

export const formatGitIdentity = ({ name, email }: GitIdentity): string => `${name} <${email}>`;
