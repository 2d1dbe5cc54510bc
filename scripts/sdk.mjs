/**
 * Writes dist/sdk: the client as a package without dependencies (decision 049). The code is one
 * bundle; the types are the declarations of src/client with the server's schemas written out, so
 * that no schema library is needed to read them.
 */
import { build } from "esbuild";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const PACKAGE = {
  name: "slipway-client",
  description: "The client of a Slipway server: submit tasks to coding agents, watch them live, read their changes.",
  type: "module",
  sideEffects: false,
  license: "MIT",
  engines: { node: ">=20.19" },
  exports: { ".": { types: "./types/client/index.d.ts", default: "./index.js" } },
};

/** @param {string} root the repository; its dist/ must contain the output of tsc. */
export async function buildSdk(root) {
  const out = join(root, "dist", "sdk");
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  await build({
    entryPoints: [join(root, "src", "client", "index.ts")],
    outfile: join(out, "index.js"),
    bundle: true,
    // Modules of Node.js are not resolved, so an import of one fails the build.
    platform: "neutral",
    format: "esm",
    target: "es2022",
    legalComments: "none",
    logLevel: "warning",
  });
  await writeTypes(join(root, "dist", "src"), join(out, "types"));
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  writeFileSync(join(out, "package.json"), `${JSON.stringify({ ...PACKAGE, version }, null, 2)}\n`);
  cpSync(join(root, "LICENSE"), join(out, "LICENSE"));
  cpSync(join(root, "docs", "sdk", "README.md"), join(out, "README.md"));
  cpSync(join(root, "docs", "sdk", "examples"), join(out, "examples"), { recursive: true });
}

/** Stands for zod in the declarations. */
const SHIM = `export declare namespace z {
  interface Type<T> {
    readonly _output: T;
  }
  type infer<T> = T extends { readonly _output: infer Output } ? Output : never;
}
`;

/** The declarations that src/client reaches. */
async function writeTypes(from, to) {
  const { z } = await import("zod");
  const waiting = [join(from, "client", "index.d.ts")];
  const seen = new Set(waiting);
  for (const file of waiting) {
    const text = await toPlainTypes(file, z);
    const target = join(to, relative(from, file));
    const shim = relative(dirname(target), join(to, "zod-types.js")).replaceAll("\\", "/");
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, text.replaceAll(/from "zod"/g, `from "${shim.startsWith(".") ? shim : `./${shim}`}"`));
    for (const [, path] of text.matchAll(/(?:from |import\()"(\.[^"]+)"/g)) {
      const next = resolve(dirname(file), path.replace(/\.(?:js|ts)$/, ".d.ts"));
      if (!existsSync(next)) throw new Error(`${file} imports ${path}, which is not built`);
      if (!seen.has(next)) waiting.push(next);
      seen.add(next);
    }
  }
  writeFileSync(join(to, "zod-types.d.ts"), SHIM);
}

/** The declarations of one file, where each schema has the type of its values. */
async function toPlainTypes(file, z) {
  const source = readFileSync(file, "utf8").replace(/^\/\/# sourceMappingURL.*$/m, "");
  if (!/from "zod"/.test(source)) return source.replaceAll(/(from "\.[^"]+)\.ts"/g, '$1.js"');
  const values = await import(pathToFileURL(file.replace(/\.d\.ts$/, ".js")).href);
  const statements = source.split(/^(?=export |declare |import |type |interface |\/\*\*)/m);
  const kept = statements.flatMap((statement) => {
    const [, name] = /^(?:export )?declare (?:const|function) (\w+)/.exec(statement) ?? [];
    if (name === undefined || !/\bz\./.test(statement)) return [statement];
    const shape = describeValue(values[name], z);
    if (shape === null && source.includes(`typeof ${name}`))
      throw new Error(`${file}: ${name} is not exported, so its type cannot be written out`);
    return shape === null ? [] : [`export declare const ${name}: ${shape};\n`];
  });
  return kept.join("").replaceAll(/(from "\.[^"]+)\.ts"/g, '$1.js"');
}

/** A schema, or an object or list of schemas; null for anything else. */
function describeValue(value, z) {
  if (value instanceof z.ZodType) return `z.Type<${toType(z.toJSONSchema(value, { unrepresentable: "any" }))}>`;
  if (Array.isArray(value)) {
    const parts = value.map((part) => describeValue(part, z));
    return parts.includes(null) ? null : `readonly [${parts.join(", ")}]`;
  }
  if (typeof value !== "object" || value === null) return null;
  const parts = Object.entries(value).map(([name, part]) => [name, describeValue(part, z)]);
  if (parts.some(([, part]) => part === null)) return null;
  return `{ ${parts.map(([name, part]) => `readonly ${JSON.stringify(name)}: ${part};`).join(" ")} }`;
}

/** A JSON Schema as a TypeScript type. */
function toType(schema) {
  if (schema === true || schema === undefined) return "unknown";
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices !== undefined) return choices.map((choice) => `(${toType(choice)})`).join(" | ");
  if (schema.allOf !== undefined) return schema.allOf.map((part) => `(${toType(part)})`).join(" & ");
  if (Array.isArray(schema.type)) return schema.type.map((type) => toType({ ...schema, type })).join(" | ");
  switch (schema.type) {
    case "string":
    case "boolean":
    case "null":
      return schema.type;
    case "number":
    case "integer":
      return "number";
    case "array":
      return `(${toType(schema.items)})[]`;
    case "object":
      return toObject(schema);
    default:
      return "unknown";
  }
}

function toObject({ properties, required = [], additionalProperties, propertyNames }) {
  if (properties === undefined) {
    const key = propertyNames === undefined ? "string" : toType(propertyNames);
    return `Record<${key}, ${toType(additionalProperties === false ? true : additionalProperties)}>`;
  }
  const fields = Object.entries(properties).map(([name, schema]) => {
    const words = schema.description === undefined ? "" : `/** ${schema.description.replaceAll("*/", "* /")} */ `;
    const type = toType(schema);
    const field = required.includes(name) ? `: ${type}` : `?: ${type} | undefined`;
    return `${words}${JSON.stringify(name)}${field};`;
  });
  return fields.length === 0 ? "Record<string, never>" : `{\n  ${fields.join("\n  ")}\n}`;
}
