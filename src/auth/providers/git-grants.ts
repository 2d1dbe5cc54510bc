/**
 * What a person granted at a provider, as their git credential for its host (decision 076). It is
 * sealed where a token would be.
 *
 * G1 A refresh token can be used once. Refreshes run one at a time on the current row, and the
 *    result is stored only if the row has not changed since it was read. A result that cannot be
 *    stored is revoked.
 * G2 What ends a grant here (unlinking, deletion of the credential) revokes it at the provider. The
 *    grant ends here even when the provider does not answer.
 */
import { KeyedMutex } from "../../core/lib/concurrency/keyed-mutex.ts";
import { errorMessage } from "../../core/error.ts";
import { TaskFailure } from "../../core/failure.ts";
import type { Act } from "../../core/ports/records/audit.ts";
import type { Accounts, Credential, KeyStore } from "../../core/ports/accounts.ts";
import type { Clock, Ids, Log } from "../../core/ports/runtime.ts";
import { credentialContext, type Vault } from "../vault.ts";
import { openProvider } from "./open-provider.ts";
import type { ProviderSettings } from "./settings.ts";
import { LoginRefused, type GitGrant, type GitSource, type Provider } from "./provider.ts";

/** A task may run on the token for as long as this without another look, ms. */
const EARLY_MS = 15 * 60_000;
/** People's tokens have no space. */
const PREFIX = "grant ";

export interface GitGrantsDeps {
  readonly providers: readonly Provider[];
  readonly accounts: Accounts;
  readonly keys: Pick<KeyStore, "reseal">;
  readonly vault: Vault;
  readonly clock: Pick<Clock, "now">;
  readonly ids: Ids;
  readonly log: Pick<Log, "info" | "warn">;
}

type Row = Pick<Credential, "id" | "userId" | "host" | "sealed">;

/** With the providers of these settings. */
export async function openGitGrants(
  settings: readonly ProviderSettings[],
  deps: Omit<GitGrantsDeps, "providers">,
): Promise<GitGrants> {
  const { clock } = deps;
  const providers = await Promise.all(settings.map((one) => openProvider(one, () => clock.now())));
  return new GitGrants({ ...deps, providers });
}

export class GitGrants {
  readonly #deps: GitGrantsDeps;
  readonly #turns = new KeyedMutex();

  constructor(deps: GitGrantsDeps) {
    this.#deps = deps;
  }

  get providers(): readonly Provider[] {
    return this.#deps.providers;
  }

  /** Replaces the person's credential for the provider's host. @param name who granted it. */
  async save(userId: string, { host }: GitSource, grant: GitGrant, name: string): Promise<void> {
    const { accounts, ids, clock, log } = this.#deps;
    await accounts.putCredential({
      id: ids.next("cred"),
      userId,
      host,
      username: null,
      sealed: this.#seal(userId, host, grant),
      createdAt: clock.now(),
      check: {
        result: "passed",
        repo: null,
        canRead: null,
        canPush: null,
        account: name,
        scopes: grant.scopes === null ? null : [...grant.scopes],
        message: `Granted by ${name} at ${host}. It is revoked there when the provider is unlinked or this credential is deleted.`,
      },
      lastUsedAt: null,
      lastUse: null,
    });
    log.info({ userId, host }, "a grant of a provider is a git credential now");
  }

  /**
   * @param opened what was sealed in the row. @returns the token for its host.
   * @throws TaskFailure `repo_auth` when the provider takes the grant no more, `repo_unreachable`.
   */
  async toToken(row: Row, opened: string): Promise<string> {
    const grant = unpack(opened);
    if (grant === null) return opened;
    if (this.#isGood(grant, EARLY_MS)) return grant.accessToken;
    return await this.#turns.run(`${row.userId} ${row.host}`, () => this.#refresh(row.userId, row.host));
  }

  /** Deletes the person's credential of a provider, if a grant is one. */
  async end(userId: string, issuer: string): Promise<void> {
    const { providers, accounts } = this.#deps;
    const git = providers.find((provider) => provider.issuer === issuer)?.git ?? null;
    const row = git === null ? null : await accounts.credentialFor(userId, git.host);
    if (row === null || this.#open(row) === null) return;
    await this.#revokeRow(row);
    await accounts.deleteCredential(userId, row.id);
  }

  /** @returns false when the person has no such credential. */
  async deleteCredential(userId: string, id: string, act?: Act): Promise<boolean> {
    const { accounts } = this.#deps;
    const row = (await accounts.credentials(userId)).find((one) => one.id === id);
    if (row !== undefined) await this.#revokeRow(row);
    return await accounts.with(act).deleteCredential(userId, id);
  }

  /** G1. */
  async #refresh(userId: string, host: string): Promise<string> {
    const { accounts, vault, clock } = this.#deps;
    const row = await accounts.credentialFor(userId, host);
    const git = this.#source(host);
    if (row === null || git === null) throw gone(host);
    const opened = vault.open(row.sealed, credentialContext(userId, host));
    const grant = unpack(opened);
    // Meanwhile the person saved a token.
    if (grant === null || grant.refreshToken === null) return grant?.accessToken ?? opened;
    if (this.#isGood(grant, EARLY_MS)) return grant.accessToken;
    try {
      const next = await git.refresh(grant.refreshToken);
      if (await this.#store(row, grant, next)) return next.accessToken;
      await this.#revoke(git, next, "token");
      throw gone(host);
    } catch (cause) {
      if (cause instanceof TaskFailure) throw cause;
      if (cause instanceof LoginRefused && cause.problem === "expired") throw gone(host, cause);
      // The provider is down or wrongly configured: the token may be good for some minutes more.
      if (grant.expiresAt !== null && grant.expiresAt > clock.now()) return grant.accessToken;
      throw new TaskFailure("repo_unreachable", {
        detail: `${host} did not renew the grant of its log-in: ${errorMessage(cause)}`,
        cause,
      });
    }
  }

  /**
   * @returns false when the credential is another one now. A rotation of the keys is waited out.
   */
  async #store(row: Row, before: GitGrant, next: GitGrant): Promise<boolean> {
    const { userId, host } = row;
    const { accounts, keys } = this.#deps;
    for (let now: Row | null = row; now !== null; now = await accounts.credentialFor(userId, host)) {
      if (this.#open(now)?.refreshToken !== before.refreshToken) return false;
      const change = { row: { kind: "credential", userId, host, sealed: now.sealed } as const };
      if ((await keys.reseal([{ ...change, sealed: this.#seal(userId, host, next) }])) === 1) return true;
    }
    return false;
  }

  #isGood({ refreshToken, expiresAt }: GitGrant, early: number): boolean {
    return refreshToken === null || expiresAt === null || expiresAt - this.#deps.clock.now() > early;
  }

  #source(host: string): GitSource | null {
    return this.#deps.providers.find(({ git }) => git?.host === host)?.git ?? null;
  }

  #seal(userId: string, host: string, grant: GitGrant): string {
    return this.#deps.vault.seal(PREFIX + JSON.stringify(grant), credentialContext(userId, host));
  }

  /** Null when the row is not a grant, or cannot be opened. */
  #open({ userId, host, sealed }: Row): GitGrant | null {
    try {
      return unpack(this.#deps.vault.open(sealed, credentialContext(userId, host)));
    } catch {
      return null;
    }
  }

  /** G2. */
  async #revokeRow(row: Row): Promise<void> {
    const [grant, git] = [this.#open(row), this.#source(row.host)];
    if (grant !== null && git !== null) await this.#revoke(git, grant, "all");
  }

  async #revoke(git: GitSource, { accessToken }: GitGrant, what: "token" | "all"): Promise<void> {
    await git.revoke(accessToken, what).catch((error: unknown) => {
      const words = "a grant could not be revoked at its provider; its person can do that there";
      this.#deps.log.warn({ host: git.host, error: errorMessage(error) }, words);
    });
  }
}

function unpack(text: string): GitGrant | null {
  return text.startsWith(PREFIX) ? (JSON.parse(text.slice(PREFIX.length)) as GitGrant) : null;
}

function gone(host: string, cause?: unknown): TaskFailure {
  const detail = `The grant for ${host} is used up or was taken back. Grant it again under You in the app, or save a token.`;
  return new TaskFailure("repo_auth", { detail, cause });
}
