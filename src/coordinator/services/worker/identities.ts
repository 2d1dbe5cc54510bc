/** Whom the commits of a task name. */
import type { WorkerSpec } from "../../../core/protocol/worker.ts";
import { identityOfEmail, type GitIdentity } from "../../../core/values/git-identity.ts";

export interface IdentityDeps {
  /** Author of commits: an identity, or the person who asked for the work; absent = Slipway. */
  readonly gitAuthor?: GitIdentity | "person";
  readonly emailOf?: ((userId: string) => Promise<string | null>) | undefined;
}

/** The author of commits where the operator names no other. */
const SLIPWAY: GitIdentity = { name: "Slipway", email: "agent@slipway.invalid" };

export async function readIdentities(
  { gitAuthor = SLIPWAY, emailOf }: IdentityDeps,
  userId: string,
): Promise<NonNullable<WorkerSpec["commit"]>> {
  const email = (await emailOf?.(userId)) ?? null;
  const person = email === null ? null : identityOfEmail(email);
  if (gitAuthor === "person") return { author: person ?? SLIPWAY, coAuthors: [] };
  const isAuthor = person === null || person.email === gitAuthor.email;
  return { author: gitAuthor, coAuthors: isAuthor ? [] : [person] };
}
