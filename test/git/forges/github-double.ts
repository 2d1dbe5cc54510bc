/**
 * GitHub as the package `emulate` has it, behind a server that adds what emulate lets pass: one
 * open pull request for each head and base, GitHub's words, and failures on request.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { createEmulator } from "emulate";
import { openOne, startFaultyServer, type ForgeDouble, type SeenPull } from "./forge-double.ts";

export const GITHUB_TOKEN = "ghp_0123456789abcdefghijklmnopqrstuvwxyz";
const OWNER = "octocat";
const NAME = "app";

interface ApiPull {
  readonly number: number;
  readonly title: string;
  readonly body: string | null;
  readonly head: { readonly ref: string };
  readonly base: { readonly ref: string };
  readonly draft: boolean;
  readonly state: "open" | "closed";
  readonly merged_at: string | null;
}

/** @param url address of the repositories; by default that of the API. */
export async function startGitHubDouble(url?: string): Promise<ForgeDouble> {
  const emulator = await createEmulator({
    service: "github",
    port: 0,
    seed: {
      tokens: { [GITHUB_TOKEN]: { login: OWNER, scopes: ["repo"] } },
      github: { users: [{ login: OWNER }], repos: [{ owner: OWNER, name: NAME, auto_init: true }] },
    },
  });

  async function ask(method: string, path: string, body?: object): Promise<unknown> {
    const answer = await fetch(emulator.url + path, {
      method,
      headers: { authorization: `Bearer ${GITHUB_TOKEN}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return await answer.json();
  }

  const pulls = async (): Promise<SeenPull[]> => {
    const all = (await ask("GET", `/repos/${OWNER}/${NAME}/pulls?state=all&direction=asc`)) as ApiPull[];
    return all.map(({ head, base, body, merged_at: mergedAt, state, number, title, draft }) => ({
      number,
      title,
      body: body ?? "",
      head: head.ref,
      base: base.ref,
      draft,
      state: mergedAt === null ? state : "merged",
    }));
  };

  async function isDoubled(request: IncomingMessage, body: string): Promise<string | null> {
    if (request.method !== "POST" || request.url?.endsWith("/pulls") !== true) return null;
    const { head, base } = JSON.parse(body) as { head: string; base: string };
    const open = (await pulls()).some((one) => one.state === "open" && one.head === head && one.base === base);
    return open ? `A pull request already exists for ${OWNER}:${head}.` : null;
  }

  async function handle(request: IncomingMessage, body: string, response: ServerResponse): Promise<void> {
    const doubled = await isDoubled(request, body);
    if (doubled !== null) {
      const errors = [{ resource: "PullRequest", code: "custom", message: doubled }];
      response.writeHead(422, { "content-type": "application/json" });
      response.end(JSON.stringify({ message: "Validation Failed", errors }));
      return;
    }
    const { authorization, accept } = request.headers;
    const answer = await fetch(emulator.url + (request.url ?? ""), {
      method: request.method ?? "GET",
      headers: { "content-type": "application/json", accept: accept ?? "", authorization: authorization ?? "" },
      ...(body === "" ? {} : { body }),
    });
    const text = await answer.text();
    // A token that emulate does not know reads what is public; GitHub answers 401.
    const isKnown = authorization === `Bearer ${GITHUB_TOKEN}`;
    response.writeHead(isKnown ? answer.status : 401, { "content-type": "application/json" });
    response.end(isKnown ? text : '{"message":"Bad credentials"}');
  }

  const server = await startFaultyServer(handle);
  const address = { kind: "github" as const, url: url ?? server.url, apiUrl: server.url };
  return {
    ...server,
    ...address,
    repo: `${address.url}/${OWNER}/${NAME}`,
    token: GITHUB_TOKEN,
    open: ({ trusted = true, timeoutMs } = {}) =>
      openOne({
        addresses: [address],
        trustedHosts: trusted ? [new URL(server.url).host] : [],
        now: () => Date.now(),
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
      }),
    pulls,
    async edit(number, changes) {
      await ask("PATCH", `/repos/${OWNER}/${NAME}/pulls/${number}`, changes);
    },
    async report(number, checks) {
      const { head } = (await ask("GET", `/repos/${OWNER}/${NAME}/pulls/${number}`)) as { head: { sha: string } };
      for (const [name, result] of Object.entries(checks)) {
        const conclusion = result === "passed" ? "success" : "failure";
        const status = result === "running" ? { status: "in_progress" } : { status: "completed", conclusion };
        await ask("POST", `/repos/${OWNER}/${NAME}/check-runs`, { name, head_sha: head.sha, ...status });
      }
    },
    async settle(number, how) {
      const path = `/repos/${OWNER}/${NAME}/pulls/${number}`;
      await (how === "close" ? ask("PATCH", path, { state: "closed" }) : ask("PUT", `${path}/merge`, {}));
    },
    async close() {
      await server.close();
      await emulator.close();
    },
  };
}
