/**
 * What the scripts of package.json run, on a fresh clone as well: checks Node.js, installs what is
 * missing, builds, then
 * (nothing)  the CLI with these arguments      --test [args]  the tests        --bench [args]  the benchmarks
 * --docs     the generated pages              --check        every check that a change must pass
 * --eval [args]  the agent on small repositories with a hidden test
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
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

/**
 * npm writes node_modules/.package-lock.json last, so an install that was interrupted counts as
 * none.
 */
function installed() {
  const lock = join(root, "package-lock.json");
  const mark = join(root, "node_modules", ".package-lock.json");
  if (!existsSync(mark)) return false;
  return statSync(mark).mtimeMs >= statSync(lock).mtimeMs || sameTree(lock, mark);
}

/** A checkout gives the lock file a new time without changing it. */
function sameTree(lock, mark) {
  const wanted = JSON.parse(readFileSync(lock, "utf8")).packages;
  const present = JSON.parse(readFileSync(mark, "utf8")).packages;
  return Object.entries(wanted).every(
    ([path, entry]) => path === "" || entry.optional || present[path]?.version === entry.version,
  );
}

/**
 * Whether `npm ci` can use the lock file: it refuses one in which an optional package of another
 * platform has no entry, which is what a registry that does not carry that package leaves behind.
 * `npm install --no-save` keeps to the same file and bears the gap.
 */
function lockIsWhole() {
  const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
  const has = (path, name) => {
    for (let at = path; ; at = at.slice(0, Math.max(0, at.lastIndexOf("/node_modules/")))) {
      if (packages[at === "" ? `node_modules/${name}` : `${at}/node_modules/${name}`] !== undefined) return true;
      if (at === "") return false;
    }
  };
  return Object.entries(packages).every(([path, entry]) =>
    Object.keys(entry.optionalDependencies ?? {}).every((name) => has(path, name)),
  );
}

function install() {
  if (installed()) return;
  const command = lockIsWhole() ? ["ci"] : ["install", "--no-save"];
  say(`installing dependencies (npm ${command.join(" ")}); this is needed once and takes a minute`);
  // When npm runs us, its own program is known and need not be on the path.
  const npm = process.env["npm_execpath"];
  const [file, args] = npm?.endsWith("npm-cli.js") ? [process.execPath, [npm, ...command]] : ["npm", command];
  const done = spawnSync(file, [...args, "--no-audit", "--no-fund"], { cwd: root, stdio: ["ignore", 2, 2] });
  if (done.error) stop(`npm could not be started: ${done.error.message}`, 1);
  if (done.status !== 0) stop(`npm ${command[0]} failed; its words are above. Correct that and run this again.`, 1);
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
  // By its place: not every package lets its package.json be resolved.
  const folder = join(root, "node_modules", name);
  const { bin } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  return join(folder, typeof bin === "string" ? bin : bin[command]);
}

/** Resolves to the exit code; signals that we get go to the child, whose end is then ours. */
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
    ["lint", tool("oxlint"), ["--type-aware", "--deny-warnings"]],
    ["format", tool("oxfmt"), ["--check"]],
    ["unused", tool("knip"), []],
    ["tests", tool("vitest"), ["run"]],
  ];
  for (const [name, file, args] of steps) {
    const began = performance.now();
    const code = await child(file, args);
    if (code !== 0) return code;
    say(`${String(name)}: good (${((performance.now() - began) / 1_000).toFixed(1)} s)`);
  }
  return 0;
}

/** machines/README.md is drawn from the charts; the test that compares it can also write it. */
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
if (first === "--bench") process.exit(await child(join(root, "dist", "bench", "main.js"), rest));
// In this process, so that a signal for npm's child is one for the server.
process.env["SLIPWAY_COMMAND"] ||= process.env["npm_execpath"] ? "npm run -s slipway --" : "slipway";
const cli = join(root, "dist", "slipway.mjs");
process.argv = [process.argv[0], cli, ...process.argv.slice(2)];
await import(pathToFileURL(cli).href);
