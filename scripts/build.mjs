/**
 * Builds dist/: with tsc what others import (the client, the types, the benches), with esbuild what
 * runs: the worker as one file, the server and CLI as a few (decision 028), with Vite the web app.
 * Does nothing when dist/ is newer than its sources.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { builtinModules, createRequire } from "node:module";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { buildSdk } from "./sdk.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const stamp = join(root, "dist", ".built");

function newest(path) {
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(stat.mtimeMs, ...readdirSync(path).map((name) => newest(join(path, name))));
}

/** Native modules, and modules that read files beside themselves: they stay in node_modules. */
export const EXTERNAL = ["better-sqlite3", "better-sqlite3-napi", "@node-rs/argon2", "dockerode"];

/** zod contains messages in fifty languages; the worker starts faster without them. */
const withoutLocales = {
  name: "without-locales",
  setup(bundler) {
    bundler.onLoad({ filter: /zod\/v4\/locales\/index\.js$/ }, () => ({ contents: "export {};" }));
  },
};

/**
 * Loads Node.js modules when the code that uses them runs. As imports they would all be evaluated
 * at the top of the single file, including those of rarely used parts; and an import of node:http
 * brings along all of fetch.
 */
const builtinsWhenUsed = {
  name: "builtins-when-used",
  setup(bundler) {
    const names = builtinModules.map((name) => name.replaceAll("/", "\\/")).join("|");
    bundler.onResolve({ filter: new RegExp(`^(?:node:)?(?:${names})$`) }, ({ path }) => ({
      path: path.replace(/^node:/, ""),
      namespace: "builtin",
    }));
    bundler.onLoad({ filter: /.*/, namespace: "builtin" }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(`node:${path}`)});`,
    }));
  },
};

/** The web app, with compressed copies beside the files: the server compresses nothing itself. */
async function buildWebApp(dir) {
  const { build: bundle } = await import("vite");
  // React has a build of its own for every NODE_ENV; a test run sets another one.
  const before = process.env["NODE_ENV"];
  process.env["NODE_ENV"] = "production";
  try {
    await bundle({ configFile: join(root, "web", "vite.config.ts"), logLevel: "warn" });
  } finally {
    if (before === undefined) delete process.env["NODE_ENV"];
    else process.env["NODE_ENV"] = before;
  }
  await buildServiceWorker(dir);
  for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !/\.(?:css|html|js|svg|webmanifest)$/.test(entry.name)) continue;
    const path = join(entry.parentPath, entry.name);
    const content = readFileSync(path);
    writeFileSync(`${path}.br`, brotliCompressSync(content));
    writeFileSync(`${path}.gz`, gzipSync(content, { level: 9 }));
  }
}

/**
 * The service worker with the list of the app's files. Its version covers what the server sends
 * with them too, because the headers of a file are kept beside it.
 */
async function buildServiceWorker(dir) {
  const entries = readdirSync(dir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = entries.map((entry) => join(entry.parentPath, entry.name)).toSorted();
  const digest = createHash("sha256");
  for (const path of [...paths, join(root, "src", "http", "web-app.ts")]) digest.update(readFileSync(path));
  const names = paths.map((path) => path.slice(dir.length).replaceAll("\\", "/"));
  const files = names.map((name) => (name === "/index.html" ? "/" : name));
  const { build: bundle } = await import("esbuild");
  await bundle({
    entryPoints: [join(root, "web", "service-worker", "main.ts")],
    outfile: join(dir, "sw.js"),
    bundle: true,
    minify: true,
    format: "iife",
    target: "es2022",
    legalComments: "none",
    logLevel: "warning",
    define: { __SHELL__: JSON.stringify({ version: digest.digest("hex").slice(0, 16), files }) },
  });
}

/** @returns true when something was built. */
export async function build() {
  const sources = [
    "src",
    "machines",
    "worker",
    "bench",
    "web",
    "tsconfig.json",
    "tsconfig.build.json",
    "package.json",
    "scripts/build.mjs",
    "scripts/sdk.mjs",
    "docs/sdk",
  ];
  const wanted = Math.max(...sources.map((name) => newest(join(root, name))));
  if (existsSync(stamp) && statSync(stamp).mtimeMs >= wanted) return false;
  const require = createRequire(import.meta.url);
  const tsc = join(require.resolve("typescript/package.json"), "..", "bin", "tsc");
  execFileSync(process.execPath, [tsc, "-p", join(root, "tsconfig.build.json")], { stdio: "inherit" });
  const { build: bundle, stop } = await import("esbuild");
  // Chunks of earlier builds.
  rmSync(join(root, "dist", "chunks"), { recursive: true, force: true });
  const common = {
    outdir: join(root, "dist"),
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    sourcemap: false,
    // Smaller and faster to load; names stay, for stack traces.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: "none",
    logLevel: "warning",
    plugins: [withoutLocales, builtinsWhenUsed],
    banner: {
      js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
    },
  };
  const from = (...path) => join(root, ...path);
  await bundle({ ...common, entryPoints: { worker: from("worker", "main.ts") } });
  await bundle({
    ...common,
    entryPoints: {
      slipway: from("src", "cli", "main.ts"),
      "engine-proxy": from("src", "sandbox", "docker", "proxy", "main.ts"),
      "secrets-thread": from("src", "git", "branch", "guard", "secrets-thread.ts"),
      "writer-thread": from("src", "store", "sqlite", "writer", "writer-thread.ts"),
    },
    splitting: true,
    chunkNames: "chunks/[hash]",
    external: EXTERNAL,
  });
  await buildSdk(root);
  await buildWebApp(from("dist", "web"));
  // esbuild's service process otherwise lives as long as this one, which may become the server.
  await stop();
  mkdirSync(join(root, "dist"), { recursive: true });
  writeFileSync(stamp, "");
  return true;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log((await build()) ? "built dist/" : "dist/ is up to date");
}
