/** Pull requests on Gitea and Forgejo (REST API, version 1). */
import { z } from "zod";
import type { Forge, GitAuth, PullRequestRequest } from "../../core/ports/repositories.ts";
import type { TokenAnswer } from "../../core/protocol/repositories.ts";
import { toForge, unlessRefused, type Dialect, type FoundCheck, type FoundPull, type ReadRequest } from "./adapter.ts";
import { parseOwnerAndName } from "./forge-address.ts";
import { ForgeApi, type ForgeOptions, type ForgeRefusal } from "./forge-api.ts";

const SCOPES = "The token needs `write:repository`, and its owner may write to the repository.";
/** Without a filter for the branch: the ones that changed last. A refusal names an older one. */
const LISTED = 50;
/** Turns a title into that of a draft, in the default settings of both. */
const DRAFT = "WIP: ";

const pullSchema = z
  .object({
    number: z.int(),
    state: z.enum(["open", "closed"]),
    title: z.string().nullish(),
    draft: z.boolean().nullish(),
    merged: z.boolean().nullish(),
    body: z.string().nullish(),
    head: z.object({ ref: z.string(), sha: z.string().nullish(), repo_id: z.int().nullish() }),
    base: z.object({ ref: z.string(), repo_id: z.int().nullish() }),
  })
  .transform(({ number, state, title, draft, merged, body, head, base }): FoundPull & { isFork: boolean } => {
    const isDraft = draft ?? title?.startsWith(DRAFT) ?? false;
    const closed = merged === true ? "merged" : "closed";
    const open = isDraft ? "draft" : "open";
    return {
      number,
      state: state === "open" ? open : closed,
      head: head.ref,
      headSha: head.sha ?? null,
      base: base.ref,
      body: body ?? "",
      isFork: head.repo_id !== base.repo_id,
    };
  });

const statusesSchema = z.object({
  statuses: z.array(z.object({ context: z.string(), status: z.string() })).nullish(),
});

const userSchema = z.object({ login: z.string() });

export function openGitea(options: ForgeOptions & { readonly name: "Gitea" | "Forgejo" }): Forge {
  return toForge(new Gitea(options));
}

class Gitea implements Dialect {
  readonly name: string;
  readonly host: string;
  readonly #url: string;
  readonly #api: ForgeApi;

  constructor(options: ForgeOptions & { readonly name: string }) {
    this.name = options.name;
    this.#url = options.url;
    this.host = new URL(options.url).host;
    this.#api = new ForgeApi({
      ...options,
      scopes: SCOPES,
      headers: (token) => ({ authorization: `token ${token}` }),
    });
  }

  serves(repo: string): boolean {
    return parseOwnerAndName(this.#url, repo) !== null;
  }

  async list({ repo, auth }: PullRequestRequest, signal: AbortSignal): Promise<FoundPull[]> {
    const path = `${this.#path(repo)}/pulls?state=all&sort=recentupdate&limit=${LISTED}`;
    const all = await this.#api.call({ method: "GET", path, auth, schema: z.array(pullSchema) }, signal);
    return all.filter(({ isFork }) => !isFork);
  }

  async create(request: PullRequestRequest, signal: AbortSignal): Promise<FoundPull> {
    const { repo, auth, head, base, title, body, draft } = request;
    const content = { head, base, title: draft ? DRAFT + title : title, body };
    const path = `${this.#path(repo)}/pulls`;
    return await this.#api.call({ method: "POST", path, auth, body: content, schema: pullSchema }, signal);
  }

  async recover({ status, text }: ForgeRefusal, { repo, auth }: PullRequestRequest, signal: AbortSignal) {
    // `issue_id` is the number that people see.
    const number = /issue_id: (\d{1,12})\b/.exec(text)?.[1];
    if (status !== 409 || number === undefined) return null;
    return await this.read({ repo, auth, number: Number(number) }, signal);
  }

  async read({ repo, auth, number }: ReadRequest, signal: AbortSignal): Promise<FoundPull> {
    const path = `${this.#path(repo)}/pulls/${number}`;
    return await this.#api.call({ method: "GET", path, auth, schema: pullSchema }, signal);
  }

  async readChecks({ repo, auth }: ReadRequest, sha: string, signal: AbortSignal): Promise<FoundCheck[] | null> {
    const path = `${this.#path(repo)}/commits/${sha}/status?limit=100`;
    const found = await unlessRefused(this.#api.call({ method: "GET", path, auth, schema: statusesSchema }, signal));
    if (found === null) return null;
    return (found.statuses ?? []).map(({ context, status }): FoundCheck => {
      const ended = ["success", "warning", "skipped"].includes(status) ? "passed" : "failed";
      return { name: context, result: status === "pending" ? "running" : ended };
    });
  }

  /** A token without `read:user` is known and cannot be asked about. */
  async readToken(auth: GitAuth, signal: AbortSignal): Promise<TokenAnswer> {
    const answer = await this.#api.identify({ path: "/user", auth, schema: userSchema }, signal);
    if (answer.kind !== "known") return answer;
    return { kind: "known", account: answer.found.login, scopes: null, mayPush: null, needs: SCOPES };
  }

  link(repo: string, number: number): string {
    return `${repo}/pulls/${number}`;
  }

  #path(repo: string): string {
    const { owner, name } = parseOwnerAndName(this.#url, repo) ?? { owner: "", name: "" };
    return `/repos/${owner}/${name}`;
  }
}
