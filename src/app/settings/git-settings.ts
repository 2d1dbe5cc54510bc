/** What the operator says about git: hosts, forges, and who the author of commits is. */
import type { GitIdentity } from "../../core/values/git-identity.ts";
import { readForges, type ForgeSettings } from "./forge-settings.ts";
import { gitAuthor, hostAndPort, list, type Read } from "./values.ts";

export interface GitSettings extends ForgeSettings {
  /** `host` or `host:port` that may be plain http or at private addresses. */
  readonly trustedRepoHosts: readonly string[];
  /** Null = Slipway. */
  readonly gitAuthor: GitIdentity | "person" | null;
}

export function readGitSettings(read: Read): GitSettings {
  const trustedRepoHosts =
    read("trustedRepoHosts", list(hostAndPort), "a comma-separated list of host or host:port") ?? [];
  return {
    trustedRepoHosts,
    gitAuthor: read("gitAuthor", gitAuthor, 'an identity such as "Name <name@example.org>", or person'),
    ...readForges(read, trustedRepoHosts),
  };
}
