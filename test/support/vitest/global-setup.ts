/**
 * Once per run: the tests that start real processes run what users run, dist/; the suites on Docker
 * learn whether there is an engine; all files get one seed (random.ts).
 */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { SEED } from "../random.ts";
import { dockerObstacle } from "../docker/probe.ts";

declare module "vitest" {
  export interface ProvidedContext {
    dockerObstacle: string | null;
  }
}

export default async function setup(project: TestProject): Promise<void> {
  execFileSync(process.execPath, [join(import.meta.dirname, "../../../scripts/build.mjs")], { stdio: "inherit" });
  // Workers inherit the environment of this process.
  process.env["SLIPWAY_TEST_SEED"] = String(SEED);
  project.provide("dockerObstacle", await dockerObstacle());
}
