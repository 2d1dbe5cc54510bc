import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import Database from "../../../src/store/sqlite/driver.ts";
import { dropFolder, makeFolder } from "../data-folder.ts";

const BUILT = join(import.meta.dirname, "../../../dist/src/store/sqlite/driver.js");

let dir: string;
beforeEach(() => {
  dir = makeFolder();
});
afterEach(() => dropFolder(dir));

describe("the driver", () => {
  it("is the precompiled version when Node.js supports it", () => {
    const name = Number(process.versions["napi"]) >= 10 ? "better-sqlite3-napi" : "better-sqlite3";
    expect(Database).toBe(createRequire(import.meta.url)(name));
  });

  it("survives garbage collection of its objects and the exit of a thread that holds some", () => {
    const script = join(dir, "churn.mjs");
    writeFileSync(
      script,
      `import { Worker, isMainThread } from "node:worker_threads";
       import { setImmediate as turn } from "node:timers/promises";
       const { default: Database } = await import(${JSON.stringify(pathToFileURL(BUILT).href)});
       const rounds = isMainThread ? 40 : 5;
       for (let i = 0; i < rounds; i += 1) {
         const db = new Database(":memory:");
         for (let k = 0; k < 50; k += 1) db.prepare("SELECT " + k).get();
         await turn();
         if (i % 10 === 9) gc();
       }
       if (isMainThread) await new Promise((resolve) => new Worker(new URL(import.meta.url)).once("exit", resolve));
       console.log("done");`,
    );
    expect(execFileSync(process.execPath, ["--expose-gc", script], { encoding: "utf8" })).toBe("done\ndone\n");
  });

  it("explains what to do when no version can be loaded", () => {
    copyFileSync(BUILT, join(dir, "driver.mjs"));
    const { status, stderr } = spawnSync(process.execPath, [join(dir, "driver.mjs")], { encoding: "utf8" });
    expect(status).toBe(1);
    expect(stderr).toMatch(/SQLite could not be loaded .*run: npm install/);
  });
});
