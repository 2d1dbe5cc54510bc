/** The forges of an installation, and which tasks get a pull request. */
import { z } from "zod";
import { PULL_REQUEST_MODES, type PullRequestMode } from "../../core/task.ts";
import { FORGE_KINDS, parseForge, type ForgeAddress } from "../../git/forges/forge-address.ts";
import { FORGES, GITHUB } from "./defaults.ts";
import { list, trimSlash, webUrl, type Read } from "./values.ts";

export interface ForgeSettings {
  /** Without a slash at the end. */
  readonly githubUrl: string;
  readonly githubApiUrl: string;
  /** Beside GitHub. */
  readonly forges: readonly ForgeAddress[];
  /** Of tasks that do not say, where the forge is known. */
  readonly pullRequest: PullRequestMode;
}

/** @param trustedHosts may be called without TLS. */
export function readForges(read: Read, trustedHosts: readonly string[]): ForgeSettings {
  const isSafe = ({ protocol, host }: URL): boolean => protocol === "https:" || trustedHosts.includes(host);
  const onlyTls = "https, except for hosts in SLIPWAY_TRUSTED_REPO_HOSTS";
  const safe = webUrl
    .refine((text) => URL.canParse(text) && isSafe(new URL(text)))
    .transform((text) => trimSlash(new URL(text).href));
  const address = z.string().transform((text, context) => {
    const forge = parseForge(text);
    if (forge !== null && isSafe(new URL(forge.url))) return forge;
    context.addIssue({ code: "custom", message: "not a forge" });
    return z.NEVER;
  });
  const forges = list(address);
  const expects = `an address without a query (${onlyTls})`;
  const githubUrl = read("githubUrl", safe, expects) ?? GITHUB.url;
  const usual = githubUrl === GITHUB.url ? GITHUB.apiUrl : `${githubUrl}/api/v3`;
  return {
    githubUrl,
    githubApiUrl: read("githubApiUrl", safe, expects) ?? usual,
    forges:
      read("forges", forges, `a comma-separated list of kind=address (${FORGE_KINDS.join(", ")}; ${onlyTls})`) ??
      forges.parse(FORGES),
    pullRequest: read("pullRequest", z.enum(PULL_REQUEST_MODES), `one of ${PULL_REQUEST_MODES.join(", ")}`) ?? "none",
  };
}
