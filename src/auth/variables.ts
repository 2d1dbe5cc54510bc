/** Variables of repositories: sealed, listed without secrets, opened for their owner's tasks. */
import type { Accounts, StoredVariable } from "../core/ports/accounts.ts";
import type { Act } from "../core/ports/records/audit.ts";
import type { Clock, Log } from "../core/ports/runtime.ts";
import { errorMessage, SlipwayError } from "../core/error.ts";
import { KeyedMutex } from "../core/lib/concurrency/keyed-mutex.ts";
import { parseRepositoryUrl } from "../core/values/repository-url.ts";
import { variableBytes, VARIABLES, VARIABLES_BYTES, type Variable } from "../core/protocol/repositories.ts";
import { variableContext, type Vault } from "./vault.ts";

export interface VariablesDeps {
  readonly accounts: Pick<Accounts, "variables" | "with">;
  readonly vault: Vault;
  readonly clock: Clock;
  readonly log: Log;
  /** Hosts of repositories that may be named by plain http. */
  readonly trustedHosts: readonly string[];
}

/** `value` is null for a secret. */
export type ListedVariable = Omit<StoredVariable, "sealed" | "userId"> & { readonly value: string | null };

export class Variables {
  readonly #deps: VariablesDeps;
  readonly #mutex = new KeyedMutex();

  constructor(deps: VariablesDeps) {
    this.#deps = deps;
  }

  /** @throws SlipwayError `invalid_repository`. @param repo null = of all repositories. */
  async list(userId: string, repo: string | null): Promise<ListedVariable[]> {
    const rows = await this.#deps.accounts.variables(userId, repo === null ? null : this.#canonical(repo));
    return rows.map(({ sealed: _, userId: __, ...row }, i) => ({
      ...row,
      value: row.secret ? null : this.#open(rows[i]),
    }));
  }

  /**
   * Stores or replaces. The name and the value are valid (src/core/protocol/repositories.ts).
   * @throws SlipwayError `invalid_repository`, `invalid_request` when the repository has too many.
   */
  async put(
    userId: string,
    { repo, ...variable }: Variable & { readonly repo: string },
    act?: Act,
  ): Promise<ListedVariable> {
    const url = this.#canonical(repo);
    return await this.#mutex.run(userId, async () => {
      const { name, value, secret, phase } = variable;
      const others = (await this.#deps.accounts.variables(userId, url)).filter((row) => row.name !== name);
      const bytes = others.reduce((sum, row) => sum + variableBytes(this.#open(row) ?? ""), variableBytes(value));
      if (others.length >= VARIABLES)
        throw new SlipwayError("invalid_request", `A repository has at most ${VARIABLES} variables. Remove one first.`);
      if (bytes > VARIABLES_BYTES)
        throw new SlipwayError("invalid_request", `The values of a repository have at most ${VARIABLES_BYTES} bytes.`);
      const sealed = this.#deps.vault.seal(value, variableContext(userId, url, name));
      const row = { userId, repo: url, name, secret, phase, updatedAt: this.#deps.clock.now() };
      await this.#deps.accounts.with(act).putVariable({ ...row, sealed });
      const { userId: _, ...listed } = row;
      return { ...listed, value: secret ? null : value };
    });
  }

  /** @throws SlipwayError `invalid_repository`. @returns whether there was one. */
  async remove(userId: string, repo: string, name: string, act?: Act): Promise<boolean> {
    return await this.#deps.accounts.with(act).deleteVariable(userId, this.#canonical(repo), name);
  }

  /** With their values, for the person's own tasks. One that cannot be opened is left out. */
  async open(userId: string, repo: string): Promise<Variable[]> {
    return (await this.#deps.accounts.variables(userId, this.#canonical(repo))).flatMap((row) => {
      const value = this.#open(row);
      return value === null ? [] : [{ name: row.name, value, secret: row.secret, phase: row.phase }];
    });
  }

  /** With and without `.git` it is the same repository. */
  #canonical(repo: string): string {
    return parseRepositoryUrl(repo, { trustedHosts: this.#deps.trustedHosts }).url.replace(/\.git$/, "");
  }

  #open(row: StoredVariable | undefined): string | null {
    if (row === undefined) return null;
    const { userId, repo, name, sealed } = row;
    try {
      return this.#deps.vault.open(sealed, variableContext(userId, repo, name));
    } catch (error) {
      this.#deps.log.error({ user: userId, repo, name, error: errorMessage(error) }, "a variable cannot be opened");
      return null;
    }
  }
}
