/** What a browser loads, and where: the built app, and the SDK alone. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { expect, it } from "vitest";

const ROOT = join(import.meta.dirname, "../../..");
const WEB = join(ROOT, "dist/web");

const gzipped = (bytes: Uint8Array): number => gzipSync(bytes, { level: 9 }).length;

/** The scripts of the page and those that it loads at once for the screen, with all they import. */
function scriptsFor(screens: readonly string[]): Set<string> {
  const page = readFileSync(join(WEB, "index.html"), "utf8");
  const built = readdirSync(join(WEB, "assets")).filter((name) => name.endsWith(".js"));
  const open = [...page.matchAll(/(?:src|href)="\/assets\/([^"]+\.js)"/g)].map(([, name]) => name ?? "");
  for (const screen of screens) open.push(...built.filter((name) => name.startsWith(`${screen}-`)));
  const found = new Set<string>();
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    if (found.has(name)) continue;
    found.add(name);
    const imports = readFileSync(join(WEB, "assets", name), "utf8").matchAll(/(?:from|import) ?"\.\/([^"]+)"/g);
    open.push(...[...imports].map(([, path]) => path ?? ""));
  }
  return found;
}

it.each([
  ["the inbox", ["inbox"]],
  ["the link of a task", ["task-screen", "conversation-view"]],
  ["a new task", ["new-task"]],
] as const)("[P6] the scripts of the first load of %s are at most 150 kB, compressed", (_name, screens) => {
  const scripts = scriptsFor(screens);
  expect(scripts.size).toBeGreaterThan(screens.length);
  const bytes = [...scripts].reduce((sum, name) => sum + gzipped(readFileSync(join(WEB, "assets", name))), 0);
  expect(bytes).toBeLessThanOrEqual(150_000);
});

it("[P7] the server and the service worker answer with the page at the address of each screen", () => {
  const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");
  const addresses = [...read("web/src/router.tsx").matchAll(/"(\/\w+)[\w/]*": lazyScreen/g)];
  // A task has its views below its address.
  const screens = ["/tasks", ...addresses.map(([, path]) => path ?? "")];
  expect(screens).toContain("/device");
  expect(screens).toContain("/login");
  const shell = new RegExp(/SCREENS = \/(.+)\/;/.exec(read("web/service-worker/shell.ts"))?.[1] ?? "");
  const server = read("src/http/web-app.ts");
  expect(screens.filter((path) => !server.includes(`"${path}`) || !shell.test(path))).toEqual([]);
});

it("[P1] the page has no script and no style in it", () => {
  const page = readFileSync(join(WEB, "index.html"), "utf8");
  expect(page).not.toMatch(/<style|style=|<script(?![^>]*\bsrc=)|\bon\w+=/);
});

it("[P6] the SDK is at most 12 kB in a browser, compressed, and brings no schema library", async () => {
  const { outputFiles, metafile } = await build({
    entryPoints: [join(ROOT, "src/client/index.ts")],
    bundle: true,
    minify: true,
    format: "esm",
    platform: "browser",
    target: "es2022",
    write: false,
    metafile: true,
  });
  expect(Object.keys(metafile.inputs).filter((file) => file.includes("node_modules"))).toEqual([]);
  expect(gzipped(outputFiles[0]!.contents)).toBeLessThanOrEqual(12_000);
});
