/**
 * GitLab by its published API (docs.gitlab.com/api/merge_requests) and in its words: merge requests
 * of one project in a group of a group, in memory. No GitLab runs here.
 */
import type { ServerResponse } from "node:http";
import { openOne, startFaultyServer, type ForgeDouble, type Handler, type SeenPull } from "./forge-double.ts";

export const GITLAB_TOKEN = "glpat-0123456789abcdefghij";
const PROJECT = "group/sub/app";
const PATH = `/api/v4/projects/${encodeURIComponent(PROJECT)}/merge_requests`;

interface Row {
  iid: number;
  title: string;
  description: string;
  state: "opened" | "closed" | "merged";
  source_branch: string;
  target_branch: string;
  sha: string;
  source_project_id: number;
  target_project_id: number;
}

export async function startGitLabDouble(url?: string): Promise<ForgeDouble> {
  const rows: Row[] = [];
  const statuses: { name: string; status: string; allow_failure: boolean }[] = [];
  const isDraft = ({ title }: Row): boolean => title.startsWith("Draft: ");
  const toApi = (row: Row): object => ({ ...row, draft: isDraft(row) });
  const answer = (response: ServerResponse, status: number, body: object): void => {
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  };

  function create(text: string, response: ServerResponse): void {
    const asked = JSON.parse(text) as Pick<Row, "title" | "description" | "source_branch" | "target_branch">;
    if (asked.source_branch === asked.target_branch)
      return answer(response, 409, { message: ["You can't use same project/branch for source and target"] });
    const other = rows.find((row) => row.state === "opened" && row.source_branch === asked.source_branch);
    if (other !== undefined && other.target_branch === asked.target_branch) {
      const message = `Another open merge request already exists for this source branch: !${other.iid}`;
      return answer(response, 409, { message: [message] });
    }
    const { title, description, source_branch, target_branch } = asked;
    const row: Row = {
      iid: rows.length + 1,
      title,
      description,
      state: "opened",
      source_branch,
      target_branch,
      sha: "1".repeat(40),
      source_project_id: 7,
      target_project_id: 7,
    };
    rows.push(row);
    answer(response, 201, toApi(row));
  }

  function list(query: URLSearchParams): Row[] {
    const branch = query.get("source_branch");
    const state = query.get("state");
    return rows.filter((row) => row.source_branch === branch && (state === "all" || row.state === state)).toReversed();
  }

  const handle: Handler = async (request, body, response) => {
    const { pathname, searchParams } = new URL(request.url ?? "/", "http://localhost");
    if (request.headers.authorization !== `Bearer ${GITLAB_TOKEN}`)
      return answer(response, 401, { message: "401 Unauthorized" });
    const iid = Number(/\/(\d+)$/.exec(pathname)?.[1]);
    const one = rows.find((row) => row.iid === iid);
    if (request.method === "POST" && pathname === PATH) create(body, response);
    else if (pathname === PATH) answer(response, 200, list(searchParams).map(toApi));
    else if (pathname === `${PATH}/${iid}` && one !== undefined) answer(response, 200, toApi(one));
    else if (pathname === PATH.replace("merge_requests", `repository/commits/${"1".repeat(40)}/statuses`))
      answer(response, 200, statuses);
    else if (pathname === "/api/v4/personal_access_tokens/self") answer(response, 200, { id: 4, scopes: ["api"] });
    else if (pathname === "/api/v4/user") answer(response, 200, { username: "octocat" });
    else answer(response, 404, { message: "404 Project Not Found" });
  };

  const server = await startFaultyServer(handle);
  const address = { kind: "gitlab" as const, url: url ?? server.url, apiUrl: `${server.url}/api/v4` };
  return {
    ...server,
    ...address,
    repo: `${address.url}/${PROJECT}`,
    token: GITLAB_TOKEN,
    open: ({ trusted = true, timeoutMs } = {}) =>
      openOne({
        addresses: [address],
        trustedHosts: trusted ? [new URL(server.url).host] : [],
        now: () => Date.now(),
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
      }),
    pulls: () =>
      Promise.resolve(
        rows.map((row): SeenPull => {
          const { iid, title, description, source_branch: head, target_branch: base, state } = row;
          const plain = title.replace(/^Draft: /, "");
          const seen = { number: iid, title: plain, body: description, head, base, draft: isDraft(row) };
          return { ...seen, state: state === "opened" ? "open" : state };
        }),
      ),
    edit: async (iid, { title, body }) => void Object.assign(rows[iid - 1] ?? {}, { title, description: body }),
    report: async (_iid, checks) => {
      const words = { passed: "success", failed: "failed", running: "running" };
      for (const [name, result] of Object.entries(checks))
        statuses.push({ name, status: words[result], allow_failure: false });
    },
    settle: async (iid, how) =>
      void Object.assign(rows[iid - 1] ?? {}, { state: how === "merge" ? "merged" : "closed" }),
  };
}
