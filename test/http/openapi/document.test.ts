/** The OpenAPI document by itself: the linter, its schemas, its names, its examples. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { EVENT_TYPES } from "../../../src/core/event.ts";
import { ERROR_TABLE } from "../../../src/core/error.ts";
import { openapiDocument, routeProblems } from "../../../src/http/openapi/document.ts";
import { ROUTES } from "../../../src/http/routes/index.ts";
import { compileComponents, type OpenapiDocument } from "./validators.ts";

const document = openapiDocument(ROUTES, "0.0.0") as unknown as OpenapiDocument;
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ method, path, ...operation })),
);

/** Every object inside, with the place where it stands. */
function* walk(value: unknown, at = ""): Generator<readonly [at: string, node: Record<string, unknown>]> {
  if (typeof value !== "object" || value === null) return;
  if (!Array.isArray(value)) yield [at, value as Record<string, unknown>];
  for (const [key, inner] of Object.entries(value)) yield* walk(inner, `${at}/${key}`);
}

describe("the OpenAPI document", () => {
  it("[V2] the linter has no error", () => {
    const dir = mkdtempSync(join(tmpdir(), "slipway-openapi-"));
    try {
      const file = join(dir, "openapi.json");
      writeFileSync(file, JSON.stringify(document));
      const require = createRequire(import.meta.url);
      const cli = join(dirname(require.resolve("@redocly/cli/package.json")), "bin/cli.js");
      const linted = spawnSync(process.execPath, [cli, "lint", file, "--format", "json"], {
        encoding: "utf8",
        cwd: dir,
        env: { ...process.env, REDOCLY_TELEMETRY: "off", REDOCLY_SUPPRESS_UPDATE_NOTICE: "true" },
      });
      const { totals, problems } = JSON.parse(linted.stdout) as {
        totals: { errors: number };
        problems: { ruleId: string; location: { pointer: string }[] }[];
      };
      expect(totals.errors, JSON.stringify(problems, null, 1)).toBe(0);
      // The answer of a WebSocket is 101; a log-in with a provider leads the browser on with 302.
      expect(problems.map(({ ruleId, location }) => [ruleId, location[0]?.pointer])).toEqual([
        ["operation-2xx-response", "#/paths/~1v1~1auth~1oauth~1{provider}~1start/get/responses"],
        ["operation-2xx-response", "#/paths/~1v1~1auth~1oauth~1{provider}~1callback/get/responses"],
        ["operation-2xx-response", "#/paths/~1v1~1stream/get/responses"],
      ]);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });

  it("[V1] each event type has a schema of its own, and the data of none is an open bag", () => {
    const { Event } = document.components.schemas;
    expect(Object.keys(Event?.discriminator?.mapping ?? {})).toEqual([...EVENT_TYPES]);
    for (const address of Object.values(Event?.discriminator?.mapping ?? {})) {
      const schema = document.components.schemas[address.split("/").at(-1) ?? ""];
      const data = schema?.properties?.["data"] as Record<string, unknown> | undefined;
      expect(data?.["properties"] ?? data?.["oneOf"], address).toBeDefined();
    }
  });

  it("[V1] each example is valid", () => {
    const validate = compileComponents(document);
    let count = 0;
    for (const [name, { examples = [] }] of Object.entries(document.components.schemas))
      for (const example of examples) {
        count += 1;
        expect(validate(name, example), `${name} ${JSON.stringify(example)}`).toEqual([]);
      }
    expect(count).toBeGreaterThan(20);
  });

  it("[V2] what the server sends is open, what a client sends is closed", () => {
    const { Submit, ScriptStep, StreamClientFrame, ...answers } = document.components.schemas;
    expect(Submit?.["additionalProperties"]).toBe(false);
    for (const closed of [ScriptStep, StreamClientFrame])
      expect(JSON.stringify(closed)).toContain('"additionalProperties":false');
    const responses = operations.map(({ responses: all }) => all);
    for (const [at, node] of walk({ answers, responses })) expect(node["additionalProperties"], at).not.toBe(false);
  });

  it("[V2] names of calls are verbs and nouns, each once; each call has a tag that is described", () => {
    const names = operations.map(({ operationId }) => operationId);
    expect(new Set(names).size).toBe(names.length);
    expect(names.filter((name) => !/^[a-z]+([A-Z][a-z]+)*$/.test(name) || name.endsWith("Id"))).toEqual([]);
    const tags = new Set(document.tags.map(({ name }) => name));
    for (const { tags: own, path } of operations)
      expect([own?.length, tags.has(own?.[0] ?? "")], path).toEqual([1, true]);
  });

  it("[V2] each call lists its error codes by status", () => {
    for (const row of ROUTES) {
      const operation = operations.find(({ operationId }) => operationId === row.operation);
      for (const code of routeProblems(row)) {
        const response = operation?.responses[String(ERROR_TABLE[code][0])];
        expect(JSON.stringify(response), `${row.operation} ${code}`).toContain(`"${code}"`);
      }
    }
    expect(JSON.stringify(document.paths["/v1/tasks"]?.["post"]?.responses["400"])).toContain('"image_not_allowed"');
  });

  it("[V2] each parameter of a path and each field of a list's query has words", () => {
    const silent = operations.flatMap(({ path, method, parameters = [] }) =>
      parameters.filter(({ description }) => !description).map(({ name }) => `${method} ${path} ${name}`),
    );
    expect(silent).toEqual([]);
  });
});
