/** What people change about their own account, and admins about others'. */
import type { Accounts } from "../core/ports/accounts.ts";
import { SlipwayError } from "../core/error.ts";
import type { AuthenticatedCaller, Sessions } from "./sessions.ts";

export interface PeopleDeps {
  readonly accounts: Accounts;
  readonly sessions: Pick<Sessions, "assertFresh">;
}

export class People {
  readonly #deps: PeopleDeps;

  constructor(deps: PeopleDeps) {
    this.#deps = deps;
  }

  /**
   * Removes an identity of the caller. @throws SlipwayError `not_found`, `fresh_login_required`,
   * and `conflict` when it is the only way to log in.
   */
  async unlink(caller: AuthenticatedCaller, id: string): Promise<void> {
    const { accounts, sessions } = this.#deps;
    await sessions.assertFresh(caller);
    const identities = await accounts.identities(caller.userId);
    if (!identities.some((row) => row.id === id)) throw new SlipwayError("not_found");
    const user = await accounts.user(caller.userId);
    const login = user === null ? null : await accounts.login(user.email);
    if (identities.length === 1 && login?.passwordHash === null)
      throw new SlipwayError("conflict", "This is the only way to log in. Set a password first.");
    await accounts.deleteIdentity(caller.userId, id);
  }
}
