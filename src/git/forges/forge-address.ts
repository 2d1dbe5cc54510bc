/** Where a forge is, and which repositories are its own. Pure. */

export const FORGE_KINDS = ["github", "gitea", "forgejo", "gitlab"] as const;
export type ForgeKind = (typeof FORGE_KINDS)[number];

/** API of a forge of that kind at `url`, where nothing else is said. */
const API_PATHS = { github: "/api/v3", gitea: "/api/v1", forgejo: "/api/v1", gitlab: "/api/v4" } as const;

export interface ForgeAddress {
  readonly kind: ForgeKind;
  /** Of its repositories: scheme and host, and a path when the forge is below one. */
  readonly url: string;
  /** Without a slash at the end. */
  readonly apiUrl: string;
}

/** The part of a repository's address below the forge's, without `.git`; null for other hosts. */
export function parsePath(forgeUrl: string, repo: string): string | null {
  const prefix = `${forgeUrl}/`;
  return repo.startsWith(prefix) ? repo.slice(prefix.length).replace(/\.git$/, "") : null;
}

/** For forges whose repositories are all `owner/name`. */
export function parseOwnerAndName(
  forgeUrl: string,
  repo: string,
): { readonly owner: string; readonly name: string } | null {
  const [owner, name, ...rest] = parsePath(forgeUrl, repo)?.split("/") ?? [];
  return owner === undefined || !name || rest.length > 0 ? null : { owner, name };
}

/** @returns the forge of `kind=address`, such as `gitea=https://git.example.org`, or null. */
export function parseForge(text: string): ForgeAddress | null {
  const [, kind = "", address = ""] = /^([a-z]+)=(https?:\/\/.+)$/.exec(text) ?? [];
  const known = FORGE_KINDS.find((name) => name === kind);
  if (known === undefined || !URL.canParse(address)) return null;
  const { origin, pathname, username, password, search, hash } = new URL(address);
  if (username + password + search + hash !== "") return null;
  const url = (origin + pathname).replace(/\/+$/, "");
  const isGitHub = known === "github" && url === "https://github.com";
  return { kind: known, url, apiUrl: isGitHub ? "https://api.github.com" : url + API_PATHS[known] };
}
