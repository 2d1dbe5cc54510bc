/**
 * The scripts of package.json, also on a fresh clone: checks Node.js, installs what is missing,
 * builds, then runs by the first argument
 *
 * (none)           the CLI with these arguments
 * --test [args]    the tests
 * --bench [args]   the benchmarks
 * --eval [args]    an agent on small repositories with hidden tests
 * --simulate [args] simulated coordinators (test/simulation/main.ts)
 * --docs           writes the generated pages
 * --check          every check that a change must pass
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, lstatSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const NEEDS = [20, 19];

function say(text) {
  process.stderr.write(`slipway: ${text}\n`);
}

function stop(text, code) {
  say(text);
  process.exit(code);
}

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major > NEEDS[0] || (major === NEEDS[0] && minor >= NEEDS[1])) return;
  stop(
    `Node.js ${NEEDS.join(".")} or newer is needed, this is ${process.versions.node}. See https://nodejs.org/en/download.`,
    2,
  );
}

/** npm writes node_modules/.package-lock.json last, so an interrupted install does not count. */
function installed() {
  const lock = join(root, "package-lock.json");
  const mark = join(root, "node_modules", ".package-lock.json");
  if (!existsSync(mark)) return false;
  return statSync(mark).mtimeMs >= statSync(lock).mtimeMs || sameTree(lock, mark);
}

/** A checkout changes the time of the lock file without changing its content. */
function sameTree(lock, mark) {
  const wanted = JSON.parse(readFileSync(lock, "utf8")).packages;
  const present = JSON.parse(readFileSync(mark, "utf8")).packages;
  return Object.entries(wanted).every(
    ([path, entry]) => path === "" || entry.optional || present[path]?.version === entry.version,
  );
}

function install() {
  if (installed()) return;
  // npm ci would empty the folder behind the link, which belongs to another checkout.
  if (lstatSync(join(root, "node_modules"), { throwIfNoEntry: false })?.isSymbolicLink())
    stop("node_modules is a symbolic link and lacks packages. Install them where it leads, or remove the link.", 2);
  say("installing dependencies (npm ci); this is needed once and takes about a minute");
  // When npm runs this script, its path is known and npm need not be on the PATH.
  const npm = process.env["npm_execpath"];
  const [file, args] = npm?.endsWith("npm-cli.js") ? [process.execPath, [npm, "ci"]] : ["npm", ["ci"]];
  const done = spawnSync(file, [...args, "--no-audit", "--no-fund"], { cwd: root, stdio: ["ignore", 2, 2] });
  if (done.error) stop(`npm could not be started: ${done.error.message}`, 1);
  if (done.status !== 0) stop("npm ci failed; its output is above. Correct the cause and run this again.", 1);
}

async function build() {
  const { build: make } = await import("./build.mjs");
  try {
    if (await make()) say("built dist/");
  } catch (error) {
    stop(`the build failed: ${error instanceof Error ? error.message : String(error)}`, 1);
  }
}

/** The file behind a command of a dependency. */
function tool(name, command = name) {
  // By path: not every package exports its package.json.
  const folder = join(root, "node_modules", name);
  const { bin } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  return join(folder, typeof bin === "string" ? bin : bin[command]);
}

/**
 * Resolves to the exit code; signals are forwarded to the child, whose end then ends this process.
 */
function child(file, args) {
  return new Promise((resolve) => {
    const running = spawn(process.execPath, [file, ...args], { cwd: root, stdio: "inherit" });
    const pass = (signal) => running.kill(signal);
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, pass);
    running.on("error", (error) => stop(error.message, 1));
    running.on("exit", (code, signal) => resolve(code ?? (signal === "SIGINT" ? 130 : 1)));
  });
}

async function check() {
  const steps = [
    ["types", tool("typescript", "tsc"), ["-p", "tsconfig.json"]],
    ["types of web", tool("typescript", "tsc"), ["-p", "web/tsconfig.json", "--noEmit"]],
    ["types of the service worker", tool("typescript", "tsc"), ["-p", "web/service-worker", "--noEmit"]],
    ["lint", tool("oxlint"), ["--type-aware", "--deny-warnings"]],
    ["format", tool("oxfmt"), ["--check"]],
    ["unused", tool("knip"), []],
    ["tests", tool("vitest"), ["run"]],
  ];
  for (const [name, file, args] of steps) {
    const began = performance.now();
    const code = await child(file, args);
    if (code !== 0) return code;
    say(`${String(name)}: ok (${((performance.now() - began) / 1_000).toFixed(1)} s)`);
  }
  return 0;
}

/** machines/README.md is generated from the statecharts, by the test that compares it. */
async function docs() {
  process.env["UPDATE_DOCS"] = "1";
  return child(tool("vitest"), ["run", "test/machines/readme.test.ts"]);
}

/**
 * npm passes a signal on to its shell, and not every shell passes it on to us: the shell's end then
 * stands for the signal.
 */
function followShell() {
  if (!process.env["npm_lifecycle_event"] || process.ppid === 1) return;
  const shell = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === shell) return;
    clearInterval(watch);
    process.kill(process.pid, "SIGTERM");
  }, 200);
  watch.unref();
}

const [first, ...rest] = process.argv.slice(2);
checkNode();
followShell();
install();
if (first === "--check") process.exit(await check());
if (first === "--test") process.exit(await child(tool("vitest"), ["run", ...rest]));
if (first === "--docs") process.exit(await docs());
await build();
if (first === "--eval") process.exit(await child(join(root, "dist", "bench", "eval", "main.js"), rest));
if (first === "--simulate") process.exit(await child(join(root, "scripts", "simulate.mjs"), rest));
if (first === "--bench") process.exit(await child(join(root, "dist", "bench", "main.js"), rest));
// In this process, so that a signal for npm's child reaches the server.
process.env["SLIPWAY_COMMAND"] ||= process.env["npm_execpath"] ? "npm run -s slipway --" : "slipway";
const cli = join(root, "dist", "slipway.mjs");
process.argv = [process.argv[0], cli, ...process.argv.slice(2)];
await import(pathToFileURL(cli).href);
