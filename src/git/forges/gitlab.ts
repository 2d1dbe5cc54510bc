/** Merge requests on gitlab.com and GitLab of one's own (REST API, version 4). */
import { z } from "zod";
import type { Forge, GitAuth, PullRequestRequest } from "../../core/ports/repositories.ts";
import type { TokenAnswer } from "../../core/protocol/repositories.ts";
import { toForge, unlessRefused, type Dialect, type FoundCheck, type FoundPull, type ReadRequest } from "./adapter.ts";
import { parsePath } from "./forge-address.ts";
import { ForgeApi, type ForgeOptions } from "./forge-api.ts";

const NAME = "GitLab";
const SCOPES = "The token needs the scope `api`, and the role Developer or more in the project.";
const LISTED = 20;
const DRAFT = "Draft: ";

const mergeRequestSchema = z
  .object({
    iid: z.int(),
    state: z.enum(["opened", "closed", "locked", "merged"]),
    draft: z.boolean().nullish(),
    description: z.string().nullish(),
    source_branch: z.string(),
    target_branch: z.string(),
    sha: z.string().nullish(),
    source_project_id: z.int().nullish(),
    target_project_id: z.int().nullish(),
  })
  .transform((one): FoundPull & { isFork: boolean } => {
    const open = one.draft === true ? "draft" : "open";
    return {
      number: one.iid,
      // `locked` is the time of the merge itself.
      state: one.state === "opened" || one.state === "locked" ? open : one.state,
      head: one.source_branch,
      headSha: one.sha ?? null,
      base: one.target_branch,
      body: one.description ?? "",
      isFork: one.source_project_id !== one.target_project_id,
    };
  });

const statusesSchema = z.array(
  z.object({ name: z.string(), status: z.string(), allow_failure: z.boolean().nullish() }),
);
const selfSchema = z.object({ scopes: z.array(z.string()) });
const userSchema = z.object({ username: z.string() });
const PUSHING = ["api", "write_repository"];
const PASSED = new Set(["success", "skipped", "manual"]);
const FAILED = new Set(["failed", "canceled"]);

export function openGitLab(options: ForgeOptions): Forge {
  return toForge(new GitLab(options));
}

class GitLab implements Dialect {
  readonly name = NAME;
  readonly host: string;
  readonly #url: string;
  readonly #api: ForgeApi;

  constructor(options: ForgeOptions) {
    this.#url = options.url;
    this.host = new URL(options.url).host;
    this.#api = new ForgeApi({
      ...options,
      name: NAME,
      scopes: SCOPES,
      headers: (token) => ({ authorization: `Bearer ${token}` }),
    });
  }

  /** Projects may be in groups of groups. */
  serves(repo: string): boolean {
    return /^[^/]+(?:\/[^/]+)+$/.test(parsePath(this.#url, repo) ?? "");
  }

  async list(request: PullRequestRequest, signal: AbortSignal): Promise<FoundPull[]> {
    return await this.#list(request, "all", signal);
  }

  async create(request: PullRequestRequest, signal: AbortSignal): Promise<FoundPull> {
    const { repo, auth, head, base, title, body, draft } = request;
    const content = {
      source_branch: head,
      target_branch: base,
      title: draft ? DRAFT + title : title,
      description: body,
    };
    const path = this.#path(repo, "merge_requests");
    return await this.#api.call({ method: "POST", path, auth, body: content, schema: mergeRequestSchema }, signal);
  }

  async recover({ status }: { readonly status: number }, request: PullRequestRequest, signal: AbortSignal) {
    return status === 409 ? ((await this.#list(request, "opened", signal))[0] ?? null) : null;
  }

  async read({ repo, auth, number }: ReadRequest, signal: AbortSignal): Promise<FoundPull> {
    const path = this.#path(repo, `merge_requests/${number}`);
    return await this.#api.call({ method: "GET", path, auth, schema: mergeRequestSchema }, signal);
  }

  /** The jobs of pipelines are statuses too. */
  async readChecks({ repo, auth }: ReadRequest, sha: string, signal: AbortSignal): Promise<FoundCheck[] | null> {
    const path = this.#path(repo, `repository/commits/${sha}/statuses?per_page=100`);
    const found = await unlessRefused(this.#api.call({ method: "GET", path, auth, schema: statusesSchema }, signal));
    if (found === null) return null;
    return found.map(({ name, status, allow_failure: mayFail }): FoundCheck => {
      if (FAILED.has(status)) return { name, result: mayFail === true ? "passed" : "failed" };
      return { name, result: PASSED.has(status) ? "passed" : "running" };
    });
  }

  /** Any personal token may read itself; only some may read their user. Others have no self. */
  async readToken(auth: GitAuth, signal: AbortSignal): Promise<TokenAnswer> {
    const self = await this.#api.identify({ path: "/personal_access_tokens/self", auth, schema: selfSchema }, signal);
    if (self.kind === "refused") return self;
    const user = await this.#api.identify({ path: "/user", auth, schema: userSchema }, signal);
    const account = user.kind === "known" ? user.found.username : null;
    if (self.kind !== "known" && user.kind !== "known") return user;
    const scopes = self.kind === "known" ? self.found.scopes : null;
    const mayPush = scopes === null ? null : PUSHING.some((scope) => scopes.includes(scope));
    return { kind: "known", account, scopes, mayPush, needs: SCOPES };
  }

  link(repo: string, number: number): string {
    return `${repo}/-/merge_requests/${number}`;
  }

  async #list({ repo, auth, head }: PullRequestRequest, state: "opened" | "all", signal: AbortSignal) {
    const query = new URLSearchParams({ source_branch: head, state, per_page: String(LISTED) });
    const path = `${this.#path(repo, "merge_requests")}?${query.toString()}`;
    const all = await this.#api.call({ method: "GET", path, auth, schema: z.array(mergeRequestSchema) }, signal);
    return all.filter(({ isFork, head: branch }) => !isFork && branch === head);
  }

  #path(repo: string, what: string): string {
    return `/projects/${encodeURIComponent(parsePath(this.#url, repo) ?? "")}/${what}`;
  }
}
