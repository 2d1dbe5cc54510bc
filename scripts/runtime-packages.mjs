/**
 * Removes all packages from node_modules that the compiled server does not load, for the
 * coordinator's image. Changes package.json: run it in a copy. The versions stay those of
 * package-lock.json.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { EXTERNAL } from "./build.mjs";

const manifest = JSON.parse(readFileSync("package.json", "utf8"));
// src/store/sqlite/driver.ts loads the one that fits the version of Node.js.
const unused = Number(process.versions.napi) >= 10 ? "better-sqlite3" : "better-sqlite3-napi";
const wanted = EXTERNAL.filter((name) => name !== unused);
const pick = (list) => Object.fromEntries(Object.entries(list).filter(([name]) => wanted.includes(name)));
delete manifest.devDependencies;
manifest.dependencies = pick(manifest.dependencies);
manifest.optionalDependencies = pick(manifest.optionalDependencies);
writeFileSync("package.json", `${JSON.stringify(manifest, null, 2)}\n`);
execFileSync("npm", ["prune", "--omit=dev", "--offline", "--ignore-scripts", "--no-audit", "--no-fund"], {
  stdio: "inherit",
});

// Removes type definitions, sources of native code, and binaries of other platforms.
const driver = "node_modules/better-sqlite3-napi";
const binaries = join(driver, "prebuilds");
const own = `${process.platform}-${process.arch}.node`;
const others = existsSync(binaries) ? readdirSync(binaries).filter((name) => name !== own) : [];
const unread = ["node_modules/@types", join(driver, "deps"), join(driver, "src")];
for (const path of [...unread, ...others.map((name) => join(binaries, name))])
  rmSync(path, { recursive: true, force: true });
