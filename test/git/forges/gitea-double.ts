/**
 * Gitea by its published API (routers/api/v1/repo/pull.go, version 1.24) and in its words: pull
 * requests of one repository, in memory. No Gitea runs here.
 */
import type { ServerResponse } from "node:http";
import { openOne, startFaultyServer, type ForgeDouble, type Handler, type SeenPull } from "./forge-double.ts";

export const GITEA_TOKEN = "0123456789abcdef0123456789abcdef01234567";
const PATH = "/api/v1/repos/team/app/pulls";

interface Row {
  number: number;
  title: string;
  body: string;
  state: "open" | "closed";
  merged: boolean;
  head: { ref: string; sha: string; repo_id: number };
  base: { ref: string; repo_id: number };
}

export async function startGiteaDouble(url?: string): Promise<ForgeDouble> {
  const rows: Row[] = [];
  const statuses: { context: string; status: string }[] = [];
  const isDraft = ({ title }: Row): boolean => title.startsWith("WIP: ");
  const toApi = (row: Row): object => ({ ...row, draft: isDraft(row) });
  const answer = (response: ServerResponse, status: number, body: object): void => {
    response.writeHead(status, { "content-type": "application/json;charset=utf-8" }).end(JSON.stringify(body));
  };
  const refuse = (response: ServerResponse, status: number, message: string): void =>
    answer(response, status, { message, url: "https://gitea.example.com/api/swagger" });

  function create(text: string, response: ServerResponse): void {
    const { head, base, title, body } = JSON.parse(text) as Record<"head" | "base" | "title" | "body", string>;
    if (head === base)
      return refuse(response, 422, "Invalid PullRequest: There are no changes between the head and the base");
    const other = rows.find((row) => row.state === "open" && row.head.ref === head && row.base.ref === base);
    if (other !== undefined) {
      const what = `[id: 9, issue_id: ${other.number}, head_repo_id: 1, base_repo_id: 1, head_branch: ${head}, base_branch: ${base}]`;
      return refuse(response, 409, `pull request already exists for these targets ${what}`);
    }
    const row: Row = {
      number: rows.length + 1,
      title,
      body,
      state: "open",
      merged: false,
      head: { ref: head, sha: "1".repeat(40), repo_id: 1 },
      base: { ref: base, repo_id: 1 },
    };
    rows.push(row);
    answer(response, 201, toApi(row));
  }

  const handle: Handler = async (request, body, response) => {
    const { pathname } = new URL(request.url ?? "/", "http://localhost");
    if (request.headers.authorization !== `token ${GITEA_TOKEN}`)
      return refuse(response, 401, "user does not exist [uid: 0, name: ]");
    const number = Number(/\/(\d+)$/.exec(pathname)?.[1]);
    const one = rows.find((row) => row.number === number);
    if (request.method === "POST" && pathname === PATH) create(body, response);
    else if (pathname === PATH) answer(response, 200, rows.toReversed().map(toApi));
    else if (pathname === `${PATH}/${number}` && one !== undefined) answer(response, 200, toApi(one));
    else if (pathname === `/api/v1/repos/team/app/commits/${"1".repeat(40)}/status`)
      answer(response, 200, { state: "pending", statuses: statuses.length === 0 ? null : statuses });
    else if (pathname === "/api/v1/user") answer(response, 200, { login: "octocat" });
    else refuse(response, 404, "The target couldn't be found.");
  };

  const server = await startFaultyServer(handle);
  const address = { kind: "gitea" as const, url: url ?? server.url, apiUrl: `${server.url}/api/v1` };
  return {
    ...server,
    ...address,
    repo: `${address.url}/team/app`,
    token: GITEA_TOKEN,
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
          const { number, title, body, head, base, state, merged } = row;
          const plain = title.replace(/^WIP: /, "");
          const seen = { number, title: plain, body, head: head.ref, base: base.ref, draft: isDraft(row) };
          return { ...seen, state: merged ? "merged" : state };
        }),
      ),
    edit: async (number, changes) => void Object.assign(rows[number - 1] ?? {}, changes),
    report: async (_number, checks) => {
      const words = { passed: "success", failed: "failure", running: "pending" };
      for (const [context, result] of Object.entries(checks)) statuses.push({ context, status: words[result] });
    },
    settle: async (number, how) =>
      void Object.assign(rows[number - 1] ?? {}, { state: "closed", merged: how === "merge" }),
  };
}
