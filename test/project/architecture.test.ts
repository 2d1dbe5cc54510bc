/**
 * Holds the source to the import table of docs/architecture.md and to the two lengths of the house
 * card.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path/posix";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const FILE_LINES = 400;
const FUNCTION_LINES = 60;
/** A top-level function together with the functions inside it: a closure in place of a class. */
const FACTORY_LINES = 120;

interface Layer {
  readonly name: string;
  readonly globs: readonly string[];
  readonly layers: readonly string[];
  /** Layers of which only types may be imported. */
  readonly types: readonly string[];
  /** Layers of which only these names may be imported. */
  readonly names: ReadonlyMap<string, readonly string[]>;
  readonly packages: readonly string[];
}

const listed = (cell: string): string[] => cell.split(/,(?![^{]*})/).flatMap((item) => item.trim() || []);
const quoted = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].flatMap((match) => match[1] ?? []);

function readTable(): Layer[] {
  const page = readFileSync(join(root, "docs/architecture.md"), "utf8");
  const table = page.split("<!-- import table -->")[1]?.split("<!-- end of import table -->")[0] ?? "";
  const rows = table.split("\n").filter((line) => line.startsWith("| ") && !line.startsWith("| layer "));
  return rows.map((row) => {
    const [name = "", files = "", may = "", packages = ""] = row
      .slice(1)
      .split("|")
      .map((cell) => cell.trim());
    const imports = listed(may);
    return {
      name,
      globs: quoted(files),
      layers: imports.filter((item) => !item.includes(" of ")),
      types: imports.flatMap((item) => (item.startsWith("types of ") ? item.slice("types of ".length) : [])),
      names: new Map(
        imports.flatMap((item) => {
          const [, names = "", layer = ""] = /^\{(.*)\} of (.*)$/.exec(item) ?? [];
          return layer === "" ? [] : [[layer, quoted(names)] as const];
        }),
      ),
      packages: quoted(packages),
    };
  });
}

/** `{a,b}`, `*` (within a folder) and `**` are all that the table uses. */
function globbed(glob: string): RegExp {
  const text = glob
    .replaceAll(/[.+^$()|[\]\\]/g, String.raw`\$&`)
    .replaceAll(/\{([^}]*)\}/g, (_all, names: string) => `(?:${names.replaceAll(",", "|")})`)
    .replaceAll("**/", "\0")
    .replaceAll("*", "[^/]*")
    .replaceAll("\0", "(?:.*/)?");
  return new RegExp(`^${text}$`);
}

function filesUnder(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && /\.tsx?$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length));
}

interface Import {
  readonly from: string;
  readonly typeOnly: boolean;
  /** Null: everything there is. */
  readonly names: readonly string[] | null;
}

/**
 * The names between the braces of an import; null when there are none (a default, a namespace, a
 * side effect, `export *`).
 */
function parseNames(clause: string): string[] | null {
  const inside = /^\{([^}]*)\}$/.exec(clause.trim())?.[1];
  const name = (item: string): string[] => /^\s*(?:type\s+)?([\w$]+)/.exec(item)?.slice(1) ?? [];
  return inside === undefined ? null : inside.split(",").flatMap(name);
}

/**
 * Static imports, re-exports, dynamic imports and `import("...")` types. Works on text without
 * comments.
 */
function parseImports(code: string): Import[] {
  const statics = [...code.matchAll(/^\s*(?:import|export)\s+(type\s+)?(?:([^"';]*?)\sfrom\s+)?["']([^"']+)["']/gm)];
  const dynamics = [...code.matchAll(/\bimport\(\s*["'`]([^"'`]+)["'`]/g)];
  const requires = [...code.matchAll(/\brequire\(\s*["'`]([^"'`]+)["'`]/g)];
  return [
    ...statics.map((match) => ({
      from: match[3] ?? "",
      typeOnly: match[1] !== undefined,
      names: parseNames(match[2] ?? ""),
    })),
    ...[...dynamics, ...requires].map((match) => ({ from: match[1] ?? "", typeOnly: false, names: null })),
  ];
}

/**
 * The code with comments, and if asked the insides of strings, blanked out; lines stay where they
 * are.
 */
function stripped(code: string, strings: boolean): string {
  const token =
    /\/\/[^\n]*|\/\*[\s\S]*?\*\/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`|(?<=[(,=:[!&|?{};\n]\s*)\/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[a-z]*/g;
  const blank = (text: string): string => text.replaceAll(/[^\n]/g, " ");
  return code.replaceAll(token, (text) =>
    text.startsWith("//") || text.startsWith("/*") || strings ? blank(text) : text,
  );
}

const NOT_A_FUNCTION =
  /^\s*(?:else\s+)?(?:if|for|while|switch|catch|with|do|try|class|interface|enum|namespace|export\s+(?:class|interface))\b/;
/** `function f(...)`, `=>`, or a method's head. */
function opensFunction(head: string): boolean {
  if (NOT_A_FUNCTION.test(head)) return false;
  return (
    /\bfunction\b|=>\s*$/.test(head) ||
    /^\s*(?:(?:static|async|get|set|override|private|public|protected)\s+)*[\w$#*]+\s*(?:<[^>]*>)?\s*\([\s\S]*\)\s*(?::[^=]*)?$/.test(
      head,
    )
  );
}

interface FunctionLength {
  readonly line: number;
  /** Without the functions inside it. */
  readonly lines: number;
  readonly withInner: number;
  readonly isTopLevel: boolean;
}

/** Length of each function, by brackets: exact enough for formatted code. */
function functionLengths(code: string): FunctionLength[] {
  const text = stripped(code, true);
  const found: FunctionLength[] = [];
  const open: { at: number; head: number; inner: number; isFunction: boolean; bracket: string }[] = [];
  let head = 0;
  const lineNumber = (at: number): number => text.slice(0, at).split("\n").length;
  for (let at = 0; at < text.length; at++) {
    const char = text[at] ?? "";
    if ("({[".includes(char)) {
      open.push({ at, head, inner: 0, isFunction: char === "{" && opensFunction(text.slice(head, at)), bracket: char });
      head = at + 1;
    } else if (")}]".includes(char)) {
      const frame = open.pop();
      if (frame === undefined) break;
      let inner = frame.inner;
      if (frame.isFunction) {
        const all = lineNumber(at) - lineNumber(frame.at) + 1;
        found.push({
          line: lineNumber(frame.at),
          lines: all - inner,
          withInner: all,
          isTopLevel: open.length === 0,
        });
        inner = all;
      }
      const outer = open.at(-1);
      if (outer !== undefined) outer.inner += inner;
      const goesOn =
        char !== "}" || /^\s*[>|&[\]),.]/.test(text.slice(at + 1, at + 20)) || !text.slice(frame.head, frame.at).trim();
      head = goesOn ? frame.head : at + 1;
    } else if (char === ";" || (char === "," && open.at(-1)?.bracket !== "(")) {
      head = at + 1;
    }
  }
  return found;
}

const layers = readTable();
const files = ["src", "machines", "worker", "bench", "web/src"].flatMap(filesUnder).sort();
const findLayers = (file: string): Layer[] =>
  layers.filter((layer) => layer.globs.some((glob) => globbed(glob).test(file)));
const source = (file: string): string => readFileSync(join(root, file), "utf8");

/** Why the import is not allowed, or null. */
function objection(file: string, layer: Layer, { from, typeOnly, names }: Import): string | null {
  if (from.startsWith(".")) {
    if (layer.name === "web" && from.endsWith(".css")) return null;
    if (!/\.tsx?$/.test(from)) return `${file} imports ${from}: relative imports end in .ts`;
    const target = join(dirname(file), from);
    const [of] = findLayers(target);
    if (of === undefined) return `${file} imports ${target}, which is in no row`;
    if (of.name === layer.name || layer.layers.includes("everything") || layer.layers.includes(of.name)) return null;
    if (typeOnly && layer.types.includes(of.name)) return null;
    const listedNames = layer.names.get(of.name);
    if (listedNames !== undefined && names !== null && names.every((name) => listedNames.includes(name))) return null;
    return `${file} (${layer.name}) imports ${target} (${of.name})`;
  }
  const name = from.startsWith("node:") ? from : from.split("/", from.startsWith("@") ? 2 : 1).join("/");
  if (layer.packages.includes(name) || (name.startsWith("node:") && layer.packages.includes("node:*"))) return null;
  return `${file} (${layer.name}) imports ${name}`;
}

describe("the import table of docs/architecture.md", () => {
  it("is well formed: names are unique, rows name known layers", () => {
    const names = layers.map((layer) => layer.name);
    expect(names.length).toBeGreaterThan(10);
    expect(new Set(names).size).toBe(names.length);
    for (const layer of layers) {
      expect(layer.globs.length, layer.name).toBeGreaterThan(0);
      const of = [...layer.layers, ...layer.types, ...layer.names.keys()];
      expect(of.filter((name) => name !== "everything" && !names.includes(name))).toEqual([]);
    }
  });

  it("has exactly one row for every file, and no row for a file that is not there", () => {
    expect(
      files.flatMap((file) =>
        findLayers(file).length === 1
          ? []
          : `${file}: ${findLayers(file)
              .map((layer) => layer.name)
              .join(", ")}`,
      ),
    ).toEqual([]);
    const globs = layers.flatMap((layer) => layer.globs.flatMap(alternatives));
    expect(globs.filter((glob) => !files.some((file) => globbed(glob).test(file)))).toEqual([]);
  });

  it("has no unused entry", () => {
    const spare = layers.flatMap((layer) => {
      const mine = files.filter((file) => findLayers(file)[0]?.name === layer.name);
      const used = mine.flatMap((file) => parseImports(stripped(source(file), false)).map((one) => ({ file, ...one })));
      const inside = used.filter(({ from }) => from.startsWith("."));
      const target = ({ file, from }: { file: string; from: string }): string | undefined =>
        findLayers(join(dirname(file), from))[0]?.name;
      const uses = (name: string): boolean =>
        used.some(({ from }) => globbed(name).test(from) || from.startsWith(`${name}/`));
      return [
        ...layer.layers.filter((name) => name !== "everything" && !inside.some((one) => target(one) === name)),
        ...layer.types.filter((name) => !inside.some((one) => target(one) === name)).map((name) => `types of ${name}`),
        ...[...layer.names].flatMap(([of, names]) =>
          names.filter((name) => !inside.some((one) => target(one) === of && one.names?.includes(name))),
        ),
        ...layer.packages.filter((name) => !uses(name)),
      ].map((name) => `${layer.name}: ${name}`);
    });
    expect(spare).toEqual([]);
  });

  it("allows every import of src, machines, worker and bench", () => {
    const found = files.map((file) => ({ file, imports: parseImports(stripped(source(file), false)) }));
    expect(found.reduce((sum, { imports }) => sum + imports.length, 0)).toBeGreaterThan(100);
    const objections = found.flatMap(({ file, imports }) => {
      const [layer] = findLayers(file);
      return layer === undefined ? [] : imports.flatMap((one) => objection(file, layer, one) ?? []);
    });
    expect(objections).toEqual([]);
  });

  it("lets only the chart know XState and only main know every adapter", () => {
    expect(layers.filter((layer) => layer.packages.includes("xstate")).map((layer) => layer.name)).toEqual([
      "machines",
    ]);
    const wires = layers.filter((layer) => layer.layers.includes("everything")).map((layer) => layer.name);
    expect(wires).toEqual(["app", "bench"]);
  });
});

describe("the house card", () => {
  it(`no file is longer than ${FILE_LINES} lines`, () => {
    const lines = (file: string): number => source(file).trimEnd().split("\n").length;
    expect(files.filter((file) => lines(file) > FILE_LINES).map((file) => `${file}: ${lines(file)}`)).toEqual([]);
  });

  it(`no function is longer than ${FUNCTION_LINES} lines`, () => {
    const long = files.flatMap((file) =>
      functionLengths(source(file))
        .filter(({ lines }) => lines > FUNCTION_LINES)
        .map(({ line, lines }) => `${file}:${line} has ${lines} lines`),
    );
    expect(long).toEqual([]);
  });

  it(`no factory is longer than ${FACTORY_LINES} lines with what is inside it`, () => {
    const long = files.flatMap((file) =>
      functionLengths(source(file))
        .filter(({ withInner, isTopLevel }) => isTopLevel && withInner > FACTORY_LINES)
        .map(({ line, withInner }) => `${file}:${line} has ${withInner} lines`),
    );
    expect(long).toEqual([]);
  });
});

describe("the checks themselves", () => {
  it("see every way to import", () => {
    const code = stripped(
      'import a from "a";\nimport "b";\nimport type {\n  C,\n} from "c";\nexport * from "d";\n// import e from "e";\nvoid import("f");',
      false,
    );
    expect(parseImports(code)).toEqual([
      { from: "a", typeOnly: false, names: null },
      { from: "b", typeOnly: false, names: null },
      { from: "c", typeOnly: true, names: ["C"] },
      { from: "d", typeOnly: false, names: null },
      { from: "f", typeOnly: false, names: null },
    ]);
    expect(
      parseImports('import { a as b, type C } from "d";\nimport e, { f } from "g";').map(({ names }) => names),
    ).toEqual([["a", "C"], null]);
  });

  it("measure functions, methods and arrows, each without what is nested in it", () => {
    const body = (n: number): string => "  x();\n".repeat(n);
    const code = `function a(b: { c: string }): void {\n${body(3)}}\nclass D {\n  async e(): Promise<{ f: 1 }> {\n${body(4)}  }\n}\nconst g = (h) => {\n${body(1)}  const i = () => {\n${body(5)}  };\n};\nif (j) {\n${body(9)}}\n`;
    expect(functionLengths(code).flatMap(({ lines }) => (lines > 1 ? lines : []))).toEqual([5, 6, 7, 3]);
    const outer = functionLengths(code).filter(({ isTopLevel }) => isTopLevel);
    expect(outer.map(({ withInner }) => withInner)).toEqual([5, 10]);
  });

  it("refuse what the table does not list", () => {
    const [machines] = findLayers("machines/task.ts");
    const ask = (from: string, typeOnly = false) =>
      objection("machines/task.ts", machines as Layer, { from, typeOnly, names: null });
    expect([ask("../src/core/task.ts"), ask("xstate"), ask("xstate/graph")]).toEqual([null, null, null]);
    expect(
      [ask("node:fs"), ask("../src/coordinator/task-log.ts", true), ask("./task-events")].every(
        (text) => text !== null,
      ),
    ).toBe(true);
    const [http] = findLayers("src/http/routes/tasks.ts");
    const fold = { from: "../../../machines/fold.ts", typeOnly: false };
    const look = (names: string[] | null) => objection("src/http/routes/tasks.ts", http as Layer, { ...fold, names });
    expect(look(["accepts", "phaseOf"])).toBeNull();
    expect([look(["accepts", "step"]), look(null)].every((text) => text !== null)).toBe(true);
  });
});

function alternatives(glob: string): string[] {
  const match = /^(.*)\{([^}]*)\}(.*)$/.exec(glob);
  return match === null ? [glob] : (match[2] ?? "").split(",").map((name) => `${match[1]}${name}${match[3]}`);
}
