/**
 * Writes the software bill of materials (CycloneDX) of all npm packages that run: those of the
 * server, bundled or not, and those that are bundled into the web app. `node scripts/sbom.mjs FILE`
 * in a checkout after `npm ci`.
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Packages that the web app imports: development dependencies, because Vite bundles them. */
function readWebPackages({ devDependencies }) {
  const entries = readdirSync("web", { recursive: true, withFileTypes: true });
  const files = entries.filter(
    (entry) => entry.isFile() && /\.tsx?$/.test(entry.name) && entry.name !== "vite.config.ts",
  );
  const found = new Set();
  for (const { parentPath, name } of files)
    for (const [, from] of readFileSync(join(parentPath, name), "utf8").matchAll(
      /(?: from |\bimport\()"([^."][^"]*)"/g,
    ))
      found.add(from.split("/", from.startsWith("@") ? 2 : 1).join("/"));
  return [...found].filter((name) => name in devDependencies);
}

/** The parts of the bill that the packages `roots` need. */
function reduce(bill, roots) {
  const top = bill.metadata.component["bom-ref"];
  const needs = new Map(bill.dependencies.map(({ ref, dependsOn }) => [ref, dependsOn]));
  const names = new Map(bill.components.map((part) => [part["bom-ref"], nameOf(part)]));
  const begin = needs.get(top).filter((ref) => roots.has(names.get(ref)));
  const reached = new Set();
  const open = [...begin];
  for (let ref = open.pop(); ref !== undefined; ref = open.pop()) {
    if (reached.has(ref)) continue;
    reached.add(ref);
    open.push(...(needs.get(ref) ?? []));
  }
  return {
    ...bill,
    components: bill.components.filter((part) => reached.has(part["bom-ref"])),
    dependencies: [{ ref: top, dependsOn: begin }, ...bill.dependencies.filter(({ ref }) => reached.has(ref))],
  };
}

const nameOf = ({ properties, name }) =>
  properties?.find((entry) => entry.name === "cdx:npm:package:path")?.value.replace(/^.*node_modules\//, "") ?? name;

const own = JSON.parse(readFileSync("package.json", "utf8"));
const roots = new Set([
  ...Object.keys(own.dependencies),
  ...Object.keys(own.optionalDependencies),
  ...readWebPackages(own),
]);
const text = execFileSync("npm", ["sbom", "--sbom-format", "cyclonedx"], { encoding: "utf8", maxBuffer: 2 ** 28 });
const bill = reduce(JSON.parse(text), roots);
const [file] = process.argv.slice(2);
if (file === undefined) console.log(JSON.stringify(bill, null, 2));
else writeFileSync(file, `${JSON.stringify(bill, null, 2)}\n`);
