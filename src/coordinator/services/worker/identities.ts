/** Whom the commits of a task name. */
import type { WorkerSpec } from "../../../core/protocol/worker.ts";
import type { Store } from "../../../core/ports/store.ts";
import {
  commitIdentityKey,
  identityOfEmail,
  readCommitIdentity,
  SLIPWAY,
  type GitIdentity,
} from "../../../core/values/git-identity.ts";

export interface IdentityDeps {
  /** Author of commits: an identity, or the person who asked for the work; absent = Slipway. */
  readonly gitAuthor?: GitIdentity | "person";
  readonly emailOf?: ((userId: string) => Promise<string | null>) | undefined;
  readonly store: Pick<Store, "setting">;
}

/** What the person chose counts, else the e-mail address of the account. */
export async function readIdentities(
  { gitAuthor = SLIPWAY, emailOf, store }: IdentityDeps,
  userId: string,
): Promise<NonNullable<WorkerSpec["commit"]>> {
  const chosen = readCommitIdentity(await store.setting(commitIdentityKey(userId)));
  const email = chosen === null ? ((await emailOf?.(userId)) ?? null) : null;
  const known = email === null ? null : identityOfEmail(email);
  const person = chosen === null ? known : { name: chosen.name, email: chosen.email };
  if (gitAuthor === "person") return { author: person ?? SLIPWAY, coAuthors: [] };
  if (person !== null && chosen?.as === "author") return { author: person, coAuthors: [] };
  const isAuthor = person === null || person.email === gitAuthor.email;
  return { author: gitAuthor, coAuthors: isAuthor ? [] : [person] };
}
