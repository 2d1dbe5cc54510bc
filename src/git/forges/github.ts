/** Pull requests on github.com and GitHub Enterprise Server (REST API, version 2022-11-28). */
import { z } from "zod";
import { TaskFailure } from "../../core/failure.ts";
import type { Forge, PullRequestRequest } from "../../core/ports/repositories.ts";
import type { PullRequest } from "../../core/task.ts";
import { ForgeApi, ForgeRefusal } from "./forge-api.ts";
import type { GuardedHttp } from "./guarded-http.ts";
import { parseOwnerAndName, type ForgeAddress } from "./forge-address.ts";

const NAME = "GitHub";
const SCOPES =
  "The token needs the scope `repo` (classic), or for this repository `Pull requests: read and write` (fine-grained), and the consent of the organisation where it has single sign-on.";
/** Newest first; an open one that is older is found when GitHub says that it exists. */
const LISTED = 20;

const pull = z.object({
  number: z.int(),
  state: z.enum(["open", "closed"]),
  draft: z.boolean().nullish(),
  merged_at: z.string().nullish(),
  body: z.string().nullish(),
  head: z.object({ ref: z.string(), sha: z.string().nullish() }),
  base: z.object({ ref: z.string() }),
});
type Pull = z.infer<typeof pull>;

export interface GitHubOptions extends ForgeAddress {
  readonly http: GuardedHttp;
  /** Epoch ms. */
  readonly now: () => number;
}

export function openGitHub({ url, apiUrl, http, now }: GitHubOptions): Forge {
  const { host } = new URL(url);
  const api = new ForgeApi({ name: NAME, host, apiUrl, scopes: SCOPES, http, headers, now });
  return {
    name: NAME,
    host,
    serves: (repo) => parseOwnerAndName(url, repo) !== null,
    openPullRequest: (request, signal) => new Opening(api, url, request, signal).run(),
  };
}

const headers = (token: string): Record<string, string> => ({
  accept: "application/vnd.github+json",
  authorization: `Bearer ${token}`,
  "x-github-api-version": "2022-11-28",
});

class Opening {
  readonly #api: ForgeApi;
  readonly #request: PullRequestRequest;
  readonly #signal: AbortSignal;
  readonly #path: string;
  readonly #owner: string;

  constructor(api: ForgeApi, url: string, request: PullRequestRequest, signal: AbortSignal) {
    const address = parseOwnerAndName(url, request.repo);
    if (address === null) throw new TaskFailure("pull_request_rejected", { detail: `${NAME} does not have it.` });
    this.#api = api;
    this.#request = request;
    this.#signal = signal;
    this.#owner = address.owner;
    this.#path = `/repos/${address.owner}/${address.name}/pulls`;
  }

  async run(): Promise<PullRequest> {
    const found = this.#choose(await this.#list("all"));
    if (found !== null) return this.#describe(found);
    try {
      return this.#describe(await this.#create({ draft: this.#request.draft }));
    } catch (error) {
      if (!(error instanceof ForgeRefusal)) throw error;
      return await this.#afterRefusal(error);
    }
  }

  async #afterRefusal({ status, text }: ForgeRefusal): Promise<PullRequest> {
    const { head, base, draft, title } = this.#request;
    if (/already exists/i.test(text)) {
      const [open] = await this.#list("open");
      if (open !== undefined) return this.#describe(open);
    }
    // Private repositories of free plans have no drafts.
    if (draft && /draft pull requests are not supported/i.test(text))
      return this.#describe(await this.#create({ draft: false, title: `Draft: ${title}` }).catch(rejectRefusal));
    const cause = /no commits between/i.test(text)
      ? `${base} has everything that ${head} has, so there is nothing to merge.`
      : /base.{0,40}invalid|invalid.{0,40}base/i.test(text)
        ? `The base branch ${base} is no longer there.`
        : `${NAME} answered ${status}.`;
    throw new TaskFailure("pull_request_rejected", { detail: `${cause} ${text}` });
  }

  /** An open one first; else one that this task has opened, or that has merged this commit. */
  #choose(all: readonly Pull[]): Pull | null {
    const { base, marker, headSha } = this.#request;
    const open = all.filter(({ state }) => state === "open");
    return (
      open.find((one) => one.base.ref === base) ??
      open[0] ??
      all.find((one) => one.body?.includes(marker) === true) ??
      all.find((one) => typeof one.merged_at === "string" && one.head.sha === headSha) ??
      null
    );
  }

  async #list(state: "open" | "all"): Promise<Pull[]> {
    const { head, auth } = this.#request;
    const query = new URLSearchParams({ head: `${this.#owner}:${head}`, state, per_page: String(LISTED) });
    const path = `${this.#path}?${query.toString()}`;
    const all = await this.#api
      .call({ method: "GET", path, auth, schema: z.array(pull) }, this.#signal)
      .catch(rejectRefusal);
    // Without a match the filter is ignored by some versions of the Enterprise Server.
    return all.filter((one) => one.head.ref === head);
  }

  async #create(changes: { readonly draft: boolean; readonly title?: string }): Promise<Pull> {
    const { head, base, title, body, auth } = this.#request;
    const content = { head, base, title, body, ...changes };
    return await this.#api.call({ method: "POST", path: this.#path, auth, body: content, schema: pull }, this.#signal);
  }

  /** The address is made here: an answer chooses no link that people follow. */
  #describe(found: Pull): PullRequest {
    const { number, draft, merged_at: mergedAt } = found;
    const repo = this.#request.repo.replace(/\.git$/, "");
    const state =
      typeof mergedAt === "string" ? "merged" : found.state === "closed" ? "closed" : draft ? "draft" : "open";
    return { url: `${repo}/pull/${number}`, number, state };
  }
}

function rejectRefusal(error: unknown): never {
  if (!(error instanceof ForgeRefusal)) throw error;
  throw new TaskFailure("pull_request_rejected", { detail: `${NAME} answered ${error.status}. ${error.text}` });
}
