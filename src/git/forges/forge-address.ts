/** Where a forge is, and which repositories are its own. Pure. */

export interface ForgeAddress {
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
