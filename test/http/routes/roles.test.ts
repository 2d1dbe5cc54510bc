/**
 * Every call of the table by every kind of caller: the cases come from the roles and the routes.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Role, Scope } from "../../../src/core/ports/accounts.ts";
import { ACCESS, ALL_SCOPES, ROLES, SCOPES, scopeOf } from "../../../src/core/roles.ts";
import { ROUTES } from "../../../src/http/routes/index.ts";
import { openApiServer, type ApiServer } from "../api-server.ts";

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
const tokens = new Map<string, string>();
beforeAll(async () => {
  api = await openApiServer();
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
const SELF = new Set(["logout", "logOutBrowser", "endSessions"]);

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

  it("no token makes a call about a person's own keys, whatever its scopes", () => {
    const own = ROUTES.filter(
      ({ path, method }) => /^\/v1\/(sessions?|tokens|credentials|me)\b/.test(path) && method !== "get",
    );
    expect(own.filter(({ access }) => access !== "none").map(({ scope }) => scope)).toEqual(
      own.filter(({ access }) => access !== "none").map(() => null),
    );
    expect(scopeOf("user", "post")).toBe("submit");
  });

  it("docs/operate.md says what each role and scope may do", () => {
    const page = readFileSync(join(import.meta.dirname, "../../../docs/operate.md"), "utf8");
    for (const [name, text] of [...Object.entries(ROLES), ...Object.entries(SCOPES)])
      expect(page).toContain(`| \`${name}\` | ${text} |`);
  });
});
