/** The forges of an installation, each with connections of its own. */
import type { Forge } from "../../core/ports/repositories.ts";
import type { ForgeAddress } from "./forge-address.ts";
import type { ForgeOptions } from "./forge-api.ts";
import { openGitea } from "./gitea.ts";
import { openGitHub } from "./github.ts";
import { openGitLab } from "./gitlab.ts";
import type { GuardedHttp, GuardOptions } from "./guarded-http.ts";

export interface ForgesOptions {
  readonly addresses: readonly ForgeAddress[];
  /** `host[:port]` entries that may be reached at private addresses. */
  readonly trustedHosts: readonly string[];
  /** Epoch ms. */
  readonly now: () => number;
  /** Longest time of one call, ms. */
  readonly timeoutMs?: number;
}

export function openForges({ addresses, trustedHosts, now, ...limits }: ForgesOptions): {
  readonly forges: readonly Forge[];
  readonly close: () => Promise<void>;
} {
  const opened = addresses.map((address) => {
    const hosts = [address.url, address.apiUrl].map((url) => new URL(url).host);
    const http = openWhenUsed({ ...limits, isTrusted: hosts.some((host) => trustedHosts.includes(host)) });
    return { http, forge: openForge({ ...address, http, now }) };
  });
  return {
    forges: opened.map(({ forge }) => forge),
    close: async () => {
      await Promise.all(opened.map(({ http }) => http.close()));
    },
  };
}

function openForge(options: ForgeOptions): Forge {
  switch (options.kind) {
    case "github":
      return openGitHub(options);
    case "gitea":
      return openGitea({ ...options, name: "Gitea" });
    case "forgejo":
      return openGitea({ ...options, name: "Forgejo" });
    case "gitlab":
      return openGitLab(options);
  }
}

/** The HTTP client is loaded with the first call: most starts open no pull request. */
function openWhenUsed(options: GuardOptions): GuardedHttp {
  let opened: Promise<GuardedHttp> | null = null;
  return {
    async send(request, signal) {
      opened ??= import("./guarded-http.ts").then(({ openGuardedHttp }) => openGuardedHttp(options));
      return await (await opened).send(request, signal);
    },
    async close() {
      await (await opened)?.close();
    },
  };
}
