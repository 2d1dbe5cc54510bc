/** Settings of git: hosts, forges, and the author of commits. */
import { z } from "zod";
import { DEFAULT_GUARD, FINDING_KINDS, type GuardRules } from "../../core/values/push-guard.ts";
import type { GitIdentity } from "../../core/values/git-identity.ts";
import { readForges, type ForgeSettings } from "./forge-settings.ts";
import { gitAuthor, hostAndPort, list, whole, type Read } from "./values.ts";

export interface GitSettings extends ForgeSettings {
  /** `host` or `host:port` that may be plain http or at private addresses. */
  readonly trustedRepoHosts: readonly string[];
  /** Null = Slipway. */
  readonly gitAuthor: GitIdentity | "person" | null;
  /** The SSH key that signs what is pushed; null = nothing is signed. */
  readonly signingKeyFile: string | null;
  /** The rules of the checks before a push. */
  readonly guard: GuardRules;
}

export function readGitSettings(read: Read): GitSettings {
  const trustedRepoHosts =
    read("trustedRepoHosts", list(hostAndPort), "a comma-separated list of host or host:port") ?? [];
  return {
    trustedRepoHosts,
    gitAuthor: read("gitAuthor", gitAuthor, 'an identity such as "Name <name@example.org>", or person'),
    signingKeyFile: read("signingKeyFile", z.string().min(1), "a file"),
    guard: readGuard(read),
    ...readForges(read, trustedRepoHosts),
  };
}

const MB = 2 ** 20;
const size = whole(1, 100_000);
const SIZE = "a whole number of megabytes from 1 to 100000";

function readGuard(read: Read): GuardRules {
  const kinds = list(z.enum(FINDING_KINDS));
  const none = z.literal("none").transform((): GuardRules["asks"] => []);
  const [fileMb, totalMb] = [read("guardFileMb", size, SIZE), read("guardTotalMb", size, SIZE)];
  return {
    fileBytes: fileMb === null ? DEFAULT_GUARD.fileBytes : fileMb * MB,
    totalBytes: totalMb === null ? DEFAULT_GUARD.totalBytes : totalMb * MB,
    asks:
      read("guard", z.union([none, kinds]), `none, or a comma-separated list of ${FINDING_KINDS.join(", ")}`) ??
      DEFAULT_GUARD.asks,
  };
}
