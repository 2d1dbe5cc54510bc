/** Pull requests on github.com and GitHub Enterprise Server (REST API, version 2022-11-28). */
import { z } from "zod";
import type { Forge, GitAuth, PullRequestRequest } from "../../core/ports/repositories.ts";
import type { TokenAnswer } from "../../core/protocol/repositories.ts";
import { toForge, unlessRefused, type Dialect, type FoundCheck, type FoundPull, type ReadRequest } from "./adapter.ts";
import { parseOwnerAndName } from "./forge-address.ts";
import { ForgeApi, type ForgeOptions } from "./forge-api.ts";

const NAME = "GitHub";
const SCOPES =
  "The token needs the scope `repo` (classic), or for this repository `Pull requests: read and write` (fine-grained), and the consent of the organisation where it has single sign-on.";
const LISTED = 20;

const pullSchema = z
  .object({
    number: z.int(),
    state: z.enum(["open", "closed"]),
    draft: z.boolean().nullish(),
    merged_at: z.string().nullish(),
    body: z.string().nullish(),
    head: z.object({ ref: z.string(), sha: z.string().nullish() }),
    base: z.object({ ref: z.string() }),
  })
  .transform(({ number, state, draft, merged_at: mergedAt, body, head, base }): FoundPull => {
    const open = draft === true ? "draft" : "open";
    const closed = typeof mergedAt === "string" ? "merged" : "closed";
    return {
      number,
      state: state === "open" ? open : closed,
      head: head.ref,
      headSha: head.sha ?? null,
      base: base.ref,
      body: body ?? "",
    };
  });

const runsSchema = z.object({
  check_runs: z.array(z.object({ name: z.string(), status: z.string(), conclusion: z.string().nullish() })),
});
const statusesSchema = z.object({ statuses: z.array(z.object({ context: z.string(), state: z.string() })) });
const userSchema = z.object({ login: z.string() });
/** Of classic tokens. Either pushes to some repositories. */
const PUSHING = ["repo", "public_repo"];
const PASSED = new Set(["success", "neutral", "skipped"]);

export function openGitHub(options: ForgeOptions): Forge {
  return toForge(new GitHub(options));
}

class GitHub implements Dialect {
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
      headers: (token) => ({
        accept: "application/vnd.github+json",
        authorization: `Bearer ${token}`,
        "x-github-api-version": "2022-11-28",
      }),
    });
  }

  serves(repo: string): boolean {
    return parseOwnerAndName(this.#url, repo) !== null;
  }

  async list(request: PullRequestRequest, signal: AbortSignal): Promise<FoundPull[]> {
    return await this.#list(request, "all", signal);
  }

  async create({ repo, auth, head, base, title, body, draft }: PullRequestRequest, signal: AbortSignal) {
    const content = { head, base, title, body, draft };
    const path = `${this.#path(repo)}/pulls`;
    return await this.#api.call({ method: "POST", path, auth, body: content, schema: pullSchema }, signal);
  }

  async recover({ text }: { readonly text: string }, request: PullRequestRequest, signal: AbortSignal) {
    // The list may be older than the refusal.
    if (/already exists/i.test(text)) return (await this.#list(request, "open", signal))[0] ?? null;
    // Private repositories of free plans have no drafts.
    if (request.draft && /draft pull requests are not supported/i.test(text))
      return await this.create({ ...request, draft: false, title: `Draft: ${request.title}` }, signal);
    return null;
  }

  async read({ repo, auth, number }: ReadRequest, signal: AbortSignal): Promise<FoundPull> {
    const path = `${this.#path(repo)}/pulls/${number}`;
    return await this.#api.call({ method: "GET", path, auth, schema: pullSchema }, signal);
  }

  /** Apps report check runs, older services report statuses. */
  async readChecks({ repo, auth }: ReadRequest, sha: string, signal: AbortSignal): Promise<FoundCheck[] | null> {
    const get = <T>(what: string, schema: z.ZodType<T>): Promise<T | null> => {
      const path = `${this.#path(repo)}/commits/${sha}/${what}?per_page=100`;
      return unlessRefused(this.#api.call({ method: "GET", path, auth, schema }, signal));
    };
    const [runs, statuses] = await Promise.all([get("check-runs", runsSchema), get("status", statusesSchema)]);
    if (runs === null && statuses === null) return null;
    return [
      ...(runs?.check_runs ?? []).map(({ name, status, conclusion }): FoundCheck => {
        const ended = PASSED.has(conclusion ?? "") ? "passed" : "failed";
        return { name, result: status === "completed" ? ended : "running" };
      }),
      ...(statuses?.statuses ?? []).map(({ context, state }): FoundCheck => {
        const ended = state === "success" ? "passed" : "failed";
        return { name: context, result: state === "pending" ? "running" : ended };
      }),
    ];
  }

  /** Classic tokens have their scopes in a header; fine-grained ones do not tell. */
  async readToken(auth: GitAuth, signal: AbortSignal): Promise<TokenAnswer> {
    const answer = await this.#api.identify({ path: "/user", auth, schema: userSchema }, signal);
    if (answer.kind !== "known") return answer;
    const listed = answer.headers["x-oauth-scopes"];
    const scopes = listed === undefined ? null : listed.split(/[,\s]+/).filter(Boolean);
    const mayPush = scopes === null ? null : PUSHING.some((scope) => scopes.includes(scope));
    return { kind: "known", account: answer.found.login, scopes, mayPush, needs: SCOPES };
  }

  link(repo: string, number: number): string {
    return `${repo}/pull/${number}`;
  }

  async #list({ repo, auth, head }: PullRequestRequest, state: "open" | "all", signal: AbortSignal) {
    const { owner } = parseOwnerAndName(this.#url, repo) ?? { owner: "" };
    const query = new URLSearchParams({ head: `${owner}:${head}`, state, per_page: String(LISTED) });
    const path = `${this.#path(repo)}/pulls?${query.toString()}`;
    return await this.#api.call({ method: "GET", path, auth, schema: z.array(pullSchema) }, signal);
  }

  #path(repo: string): string {
    const { owner, name } = parseOwnerAndName(this.#url, repo) ?? { owner: "", name: "" };
    return `/repos/${owner}/${name}`;
  }
}
