/**
 * Every call of the table by every kind of caller: the cases come from the roles and the routes.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Role, Scope } from "../../../src/core/ports/accounts.ts";
import { ACCESS, ALL_SCOPES, OTHERS_TASKS, ROLES, SCOPES, scopeOf, type TaskAct } from "../../../src/core/roles.ts";
import { ROUTES } from "../../../src/http/routes/index.ts";
import { openApiServer, REPO, type ApiServer } from "../api-server.ts";

interface Caller {
  readonly name: string;
  readonly role: Role | null;
  /** Null = a log-in session. */
  readonly scopes: readonly Scope[] | null;
}

const roles = Object.keys(ROLES) as Role[];
const callers: Caller[] = [
  { name: "nobody", role: null, scopes: null },
  ...roles.map((role) => ({ name: role, role, scopes: null })),
  ...roles.flatMap((role) =>
    ALL_SCOPES.map((scope) => ({ name: `${role}'s token for ${scope}`, role, scopes: [scope] })),
  ),
];

let api: ApiServer;
let owner: string;
const tokens = new Map<string, string>();
beforeAll(async () => {
  api = await openApiServer();
  owner = (await api.person("owner@example.com")).accessToken;
  for (const { name, role, scopes } of callers) {
    if (role === null) continue;
    const email = `${name.replaceAll(/\W+/g, "-")}@example.com`;
    const { userId, accessToken } = await api.person(email, role);
    const caller = { userId, role, sessionId: null, expiresAt: null, via: "session", scopes: null } as const;
    tokens.set(
      name,
      scopes === null ? accessToken : (await api.sessions.createToken(caller, name, null, null, scopes)).token,
    );
  }
});
afterAll(() => api.close());

/**
 * Ids of things that are not there: who may make the call gets past the check, and changes nothing.
 */
const pathOf = (path: string): string =>
  path
    .replaceAll(":id", `task_${"z".repeat(26)}`)
    .replaceAll(":mid", "m1")
    .replaceAll(":name", "a1-workspace.tar.gz")
    .replaceAll(":provider", "none");
/** Calls that would change the caller's own session are judged by the table alone. */
const SELF = new Set(["logout", "logOutBrowser", "endSessions", "deleteMe"]);

const expected = ({ access, scope }: (typeof ROUTES)[number], { role, scopes }: Caller): "in" | 401 | 403 => {
  if (access === "none") return "in";
  // From this machine metrics need no token; with one, its role counts too.
  if (role === null) return access === "metrics" ? "in" : 401;
  if (access === "metrics") return "in";
  if (!(ACCESS[access] as readonly Role[]).includes(role)) return 403;
  return scopes === null || (scope !== null && scopes.includes(scope)) ? "in" : 403;
};

describe("[H6] who may make which call", () => {
  it.each(ROUTES.filter(({ operation }) => !SELF.has(operation)).map((row) => [row.operation, row] as const))(
    "%s",
    async (_operation, row) => {
      for (const caller of callers) {
        const token = tokens.get(caller.name);
        const answer = await api.call(row.method.toUpperCase(), pathOf(row.path), {
          ...(token === undefined ? {} : { token }),
          // Not valid for any call: who may make it gets 400 in place of its effect.
          ...(row.method === "post" ? { body: { "": "" } } : {}),
        });
        const found = [401, 403].includes(answer.status) && row.access !== "none" ? answer.status : "in";
        expect(found, `${caller.name}: ${answer.status} ${answer.text.slice(0, 200)}`).toBe(expected(row, caller));
      }
    },
  );

  describe("[H12] what they may do with a task of somebody else", () => {
    /** The calls of each act. */
    const CALLS: Record<TaskAct, readonly (readonly [path: string, body: object | null])[]> = {
      look: ["", "/events", "/messages", "/machine"].map((path) => [path, null] as const),
      direct: [
        ["/retry", {}],
        ["/messages", { text: "Do it as I say." }],
        ["/answer", { questionId: "q1", text: "100" }],
      ],
      stop: [["/cancel", {}]],
      delete: [["", null]],
    };
    it.each(Object.entries(CALLS).flatMap(([act, calls]) => calls.map((row) => [act as TaskAct, ...row] as const)))(
      "%s: %s",
      async (act, path, body) => {
        for (const role of roles) {
          const task = { repo: REPO, prompt: "x" };
          const mine = await api.call("POST", "/v1/tasks", { token: owner, body: task });
          const url = `/v1/tasks/${mine.body.id}${path}`;
          const token = tokens.get(role) ?? "";
          const method = act === "delete" ? "DELETE" : body === null ? "GET" : "POST";
          const answer = await api.call(method, url, { token, ...(body && { body }) });
          const may = (OTHERS_TASKS[act] as readonly Role[]).includes(role);
          const refused = (OTHERS_TASKS.look as readonly Role[]).includes(role) ? 403 : 404;
          // Nobody asked, or the task is open: who may is told so.
          if (may)
            expect(answer.text).toMatch(path === "/answer" ? /no such question/ : /"seq"|"items"|"state"|task_open/);
          else expect(answer.status, `${role}: ${answer.text}`).toBe(refused);
        }
      },
    );

    it("the head of a task that an admin began for its owner says so, and every task that the owner begins says the owner", async () => {
      const { body } = await api.call("POST", "/v1/tasks", { token: owner, body: { repo: REPO, prompt: "x" } });
      await api.call("POST", `/v1/tasks/${body.id}/cancel`, { token: owner });
      await api.harness.until(body.id, "cancelled");
      const retry = { token: tokens.get("admin") ?? "", body: {} };
      const { body: theirs } = await api.call("POST", `/v1/tasks/${body.id}/retry`, retry);
      expect([theirs.owner.email, theirs.submittedBy.email]).toEqual(["owner@example.com", "admin@example.com"]);
      await api.call("POST", `/v1/tasks/${theirs.id}/cancel`, { token: owner });
      await api.harness.until(theirs.id, "cancelled");
      const { body: mine } = await api.call("POST", `/v1/tasks/${theirs.id}/retry`, { token: owner, body: {} });
      expect(mine.submittedBy).toEqual(mine.owner);
    });
  });

  it("no token makes a call about a person's own keys, whatever its scopes", () => {
    const own = ROUTES.filter(
      ({ path, method }) => /^\/v1\/(sessions?|tokens|credentials|me)\b/.test(path) && method !== "get",
    );
    expect(own.filter(({ access }) => access !== "none").map(({ scope }) => scope)).toEqual(
      own.filter(({ access }) => access !== "none").map(() => null),
    );
    expect(scopeOf("user", "post")).toBe("submit");
  });

  it("docs/people.md says what each role and scope may do", () => {
    const page = readFileSync(join(import.meta.dirname, "../../../docs/people.md"), "utf8");
    for (const [name, text] of [...Object.entries(ROLES), ...Object.entries(SCOPES)])
      expect(page).toContain(`| \`${name}\` | ${text} |`);
  });
});
