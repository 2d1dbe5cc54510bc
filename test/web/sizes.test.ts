/** What a browser loads, and where: the built app, and the SDK alone. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { expect, it } from "vitest";

const ROOT = join(import.meta.dirname, "../..");
const WEB = join(ROOT, "dist/web");

const gzipped = (bytes: Uint8Array): number => gzipSync(bytes, { level: 9 }).length;

it("[P6] the scripts of the first load are at most 150 kB, compressed", () => {
  const page = readFileSync(join(WEB, "index.html"), "utf8");
  const scripts = [...page.matchAll(/(?:src|href)="(\/assets\/[^"]+\.js)"/g)].map(([, path]) => path ?? "");
  expect(scripts.length).toBeGreaterThan(0);
  const bytes = scripts.reduce((sum, path) => sum + gzipped(readFileSync(join(WEB, path))), 0);
  expect(bytes).toBeLessThanOrEqual(150_000);
});

it("[P7] the server and the service worker answer with the page at the address of each screen", () => {
  const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");
  const addresses = [...read("web/src/router.tsx").matchAll(/path: "(\/\w+)/g)].map(([, path]) => path ?? "");
  // Views of a task, which stand below its address.
  const screens = addresses.filter((path) => !["/changes", "/machine"].includes(path));
  expect(screens).toContain("/device");
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
