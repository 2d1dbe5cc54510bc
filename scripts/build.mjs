/**
 * Builds dist/: what others import (the client, the types, the bench) by tsc; what runs, by
 * esbuild: the worker as one file, the server and CLI as few, because a start from six hundred
 * files takes half as long again. Skips what is newer than its sources.
 */
import { execFileSync } from "node:child_process";
import { builtinModules, createRequire } from "node:module";
import { readdirSync, rmSync, statSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const stamp = join(root, "dist", ".built");

function newest(path) {
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(stat.mtimeMs, ...readdirSync(path).map((name) => newest(join(path, name))));
}

/** zod carries its messages in fifty languages; the worker starts sooner without. */
const withoutLocales = {
  name: "without-locales",
  setup(bundler) {
    bundler.onLoad({ filter: /zod\/v4\/locales\/index\.js$/ }, () => ({ contents: "export {};" }));
  },
};

/**
 * Node's own modules are loaded when the code that names them runs. As imports they would all stand
 * at the top of the one file, also those of parts that are hardly ever used; and an import of
 * node:http brings along all of fetch.
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

/** @returns true when something was built. */
export async function build() {
  const sources = [
    "src",
    "machines",
    "worker",
    "bench",
    "tsconfig.json",
    "tsconfig.build.json",
    "package.json",
    "scripts/build.mjs",
  ];
  const wanted = Math.max(...sources.map((name) => newest(join(root, name))));
  if (existsSync(stamp) && statSync(stamp).mtimeMs >= wanted) return false;
  const require = createRequire(import.meta.url);
  const tsc = join(require.resolve("typescript/package.json"), "..", "bin", "tsc");
  execFileSync(process.execPath, [tsc, "-p", join(root, "tsconfig.build.json")], { stdio: "inherit" });
  const { build: bundle, stop } = await import("esbuild");
  // Of builds before.
  rmSync(join(root, "dist", "chunks"), { recursive: true, force: true });
  const common = {
    outdir: join(root, "dist"),
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    sourcemap: false,
    // Smaller and quicker to load; names stay, for the traces of errors.
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
      "writer-thread": from("src", "store", "sqlite", "writer", "writer-thread.ts"),
    },
    splitting: true,
    chunkNames: "chunks/[hash]",
    // What is compiled, and what reads files beside itself.
    external: ["better-sqlite3", "better-sqlite3-napi", "@node-rs/argon2", "dockerode"],
  });
  // esbuild's service process otherwise lives as long as this one, which may become the server.
  await stop();
  mkdirSync(join(root, "dist"), { recursive: true });
  writeFileSync(stamp, "");
  return true;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log((await build()) ? "built dist/" : "dist/ is up to date");
}
