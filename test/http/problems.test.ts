import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { ERROR_TABLE, type ErrorCode } from "../../src/core/error.ts";
import { routeProblems } from "../../src/http/openapi/document.ts";
import { ROUTES } from "../../src/http/routes/index.ts";

const SOURCE = join(import.meta.dirname, "../../src");

/** Every code that the source file throws by name. */
function readThrownCodes(file: string): ErrorCode[] {
  const source = readFileSync(join(SOURCE, file), "utf8");
  const found = [...source.matchAll(/new SlipwayError\(\s*"(\w+)"/g)].map(([, code]) => code as ErrorCode);
  for (const code of found) expect(Object.keys(ERROR_TABLE), file).toContain(code);
  return [...new Set(found)];
}

function getDeclared(method: string, path: string): ErrorCode[] {
  const row = ROUTES.find((route) => route.method === method && route.path === path);
  if (row === undefined) throw new Error(`there is no route ${method} ${path}`);
  return routeProblems(row);
}

/** Modules of which a call of the route may reach every `throw`. */
const REACHED: readonly (readonly [method: "get" | "post", path: string, files: readonly string[]])[] = [
  [
    "post",
    "/v1/tasks",
    ["coordinator/services/tasks/task-spec.ts", "core/values/repository-url.ts", "core/values/image-reference.ts"],
  ],
  ["get", "/v1/tasks/:id/diff", ["git/diff.ts", "git/read.ts"]],
];

it.each(REACHED)("%s %s declares every code that its services throw", (method, path, files) => {
  const declared = getDeclared(method, path);
  for (const file of files) for (const code of readThrownCodes(file)) expect(declared, file).toContain(code);
});

it.each([
  ["coordinator/services/tasks.ts", "/v1/tasks"],
  ["http/routes/tasks.ts", "/v1/tasks"],
  ["auth/sessions.ts", "/v1/"],
  ["http/routes/people/log-in/auth.ts", "/v1/"],
  ["http/routes/operations.ts", "/"],
])("each code that %s throws is declared by a route under %s", (file, prefix) => {
  const declared = ROUTES.filter(({ path }) => path.startsWith(prefix)).flatMap((row) => row.problems);
  const general = ["internal", "unauthenticated", "forbidden", "invalid_request"];
  for (const code of readThrownCodes(file)) expect([...declared, ...general]).toContain(code);
});

it("every call that uses the store declares `unavailable`, the answer while the server stops", () => {
  for (const row of ROUTES)
    if (row.path.startsWith("/v1/")) expect(routeProblems(row), row.path).toContain("unavailable");
});
