/**
 * Import cycles are forbidden, between types as well: each file can be understood after its
 * imports.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path/posix";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

type Graph = ReadonlyMap<string, readonly string[]>;

const root = fileURLToPath(new URL("../..", import.meta.url));
const FOLDERS = ["src", "machines", "worker", "web/src"];

function listFiles(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && /\.tsx?$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length));
}

/**
 * Targets of relative static imports, re-exports, dynamic imports and `import("...")` types, with
 * or without `type`.
 */
function readImports(file: string, code: string): string[] {
  const withoutComments = code.replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/[^\n]*/gm, "");
  const statics = withoutComments.matchAll(/^\s*(?:import|export)\s+(?:[^"';]*?\sfrom\s+)?["'](\.[^"']+)["']/gm);
  const dynamics = withoutComments.matchAll(/\bimport\(\s*["'`](\.[^"'`]+)["'`]/g);
  const targets = [...statics, ...dynamics].map(([, target = ""]) => join(dirname(file), target));
  return targets.filter((target) => !target.endsWith(".css"));
}

/** Tarjan's algorithm. @returns the strongly connected components that contain a cycle, sorted. */
function findCycles(graph: Graph): string[][] {
  const order = new Map<string, number>();
  const stack: string[] = [];
  const cycles: string[][] = [];

  function visit(node: string): number {
    let low = order.size;
    order.set(node, low);
    stack.push(node);
    const position = low;
    for (const target of graph.get(node) ?? []) {
      if (!order.has(target)) low = Math.min(low, visit(target));
      else if (stack.includes(target)) low = Math.min(low, order.get(target) ?? low);
    }
    if (low !== position) return low;
    const component = stack.splice(stack.indexOf(node));
    if (component.length > 1 || graph.get(node)?.includes(node)) cycles.push(component.toSorted());
    return low;
  }

  for (const node of graph.keys()) if (!order.has(node)) visit(node);
  return cycles.toSorted((a, b) => (a.join() < b.join() ? -1 : 1));
}

const graphFrom = (sources: Readonly<Record<string, string>>): Graph =>
  new Map(Object.entries(sources).map(([file, code]) => [file, readImports(file, code)]));

describe("import cycles", () => {
  it("src, machines and worker have none, types included", () => {
    const files = FOLDERS.flatMap(listFiles);
    const graph = graphFrom(Object.fromEntries(files.map((file) => [file, readFileSync(join(root, file), "utf8")])));
    const targets = [...graph.values()].flat();
    expect(targets.length).toBeGreaterThan(500);
    expect(targets.filter((target) => !graph.has(target))).toEqual([]);
    expect(findCycles(graph)).toEqual([]);
  });

  it("are found through every kind of import", () => {
    const imports = [
      'import { b } from "./b.ts";',
      'import type { B } from "./b.ts";',
      'import {\n  type B,\n} from "./b.ts";',
      'import "./b.ts";',
      'export * from "./b.ts";',
      'export type { B } from "./b.ts";',
      'void import("./b.ts");',
      'type B = import("./b.ts").B;',
    ];
    const back = 'import { c } from "../lib/c.ts";';
    for (const text of imports) {
      const graph = graphFrom({
        "src/a.ts": text,
        "src/b.ts": back,
        "lib/c.ts": 'import "../src/a.ts";',
        "src/d.ts": text,
      });
      expect(findCycles(graph), text).toEqual([["lib/c.ts", "src/a.ts", "src/b.ts"]]);
    }
  });

  it("are separate when they share no file, and include a file that imports itself", () => {
    const graph = graphFrom({
      "a.ts": 'import "./b.ts";\nimport "./c.ts";',
      "b.ts": 'import "./a.ts";',
      "c.ts": 'import "./d.ts";',
      "d.ts": 'import "./c.ts";',
      "e.ts": 'import "./e.ts";',
    });
    expect(findCycles(graph)).toEqual([["a.ts", "b.ts"], ["c.ts", "d.ts"], ["e.ts"]]);
  });

  it("are not seen in comments, packages or diamonds", () => {
    const graph = graphFrom({
      "a.ts": 'import "./b.ts";\nimport "./c.ts";\nimport "zod";',
      "b.ts": 'import "./d.ts";\n// import "./a.ts";',
      "c.ts": 'import "./d.ts";\n/* import "./a.ts"; */',
      "d.ts": "",
    });
    expect(findCycles(graph)).toEqual([]);
  });
});
