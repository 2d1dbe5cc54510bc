/**
 * Bundles test/simulation/main.ts and runs it with these arguments; with --workers N in N
 * processes, each with its own seeds. Needs dist/, for the SQLite store's thread: `npm run
 * simulate` builds it first.
 */
import { fork } from "node:child_process";
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, stop } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const outdir = join(root, "dist", "simulate");

mkdirSync(outdir, { recursive: true });
await build({
  entryPoints: { main: join(root, "test", "simulation", "main.ts") },
  outdir,
  outExtension: { ".js": ".mjs" },
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
  sourcemap: "inline",
  logLevel: "warning",
  external: ["better-sqlite3", "better-sqlite3-napi"],
  banner: {
    js: `import { createRequire as __createRequire } from "node:module"; const require = __createRequire(${JSON.stringify(createRequire(import.meta.url).resolve("../package.json"))});`,
  },
});
await stop();

const args = process.argv.slice(2);
const at = args.indexOf("--workers");
const workers = at < 0 ? 1 : Number(args[at + 1]);
const rest = at < 0 ? args : [...args.slice(0, at), ...args.slice(at + 2)];

const codes = await Promise.all(
  Array.from({ length: workers }, (_, index) => {
    const child = fork(join(outdir, "main.mjs"), [...rest, "--part", `${index}/${workers}`], {
      cwd: root,
      execArgv: ["--enable-source-maps"],
    });
    for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal));
    return new Promise((resolve) => child.on("exit", (code) => resolve(code ?? 1)));
  }),
);
process.exitCode = codes.some((code) => code !== 0) ? 1 : 0;
