/**
 * Loads the newest better-sqlite3 that this Node.js supports. Version 13 needs Node-API 10 (Node
 * 22.14) and ships compiled. Version 12 supports Node 20, but built from source for Node 24.19 and
 * later it crashes the process when one of its objects is garbage-collected (better-sqlite3 issue
 * 1515). So both are optional dependencies (decision 027).
 */
import { createRequire } from "node:module";
import type DatabaseConstructor from "better-sqlite3";

export type { Database as Connection, Statement } from "better-sqlite3";

const NEWER = "better-sqlite3-napi";
const OLDER = "better-sqlite3";

function load(): typeof DatabaseConstructor {
  const require = createRequire(import.meta.url);
  const names = Number(process.versions["napi"]) >= 10 ? [NEWER, OLDER] : [OLDER];
  const reasons: string[] = [];
  for (const name of names) {
    try {
      const loaded = require(name) as typeof DatabaseConstructor;
      // The native module is loaded when the first database is opened.
      new loaded(":memory:").close();
      return loaded;
    } catch (error) {
      reasons.push(`${name}: ${error instanceof Error ? error.message.split("\n", 1)[0] : String(error)}`);
    }
  }
  throw new Error(
    `SQLite could not be loaded (${reasons.join("; ")}). Use Node.js 22.14 or newer, or install a C++ compiler and Python; then run: npm install`,
  );
}

const Database: typeof DatabaseConstructor = load();
export default Database;
