/**
 * Suites on a real Docker engine. Without an engine they are skipped, with the reason in their
 * name; with SLIPWAY_REQUIRE_ENGINES=1 (CI) that is an error instead.
 */
import Docker from "dockerode";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, inject } from "vitest";
import { dockerOptions } from "../../../src/sandbox/docker/engine.ts";
import { LoopDevices } from "../../../src/sandbox/docker/disk/loop-devices.ts";

export const required = process.env["SLIPWAY_REQUIRE_ENGINES"] === "1";
export { BASE_IMAGE } from "./probe.ts";

export const dockerAvailable = (): boolean => inject("dockerObstacle") === null;

/**
 * A suite that needs Docker; skipped with the reason in its name where there is none. Throws
 * instead when engines are required.
 */
export function describeWithDocker(name: string, suite: () => void): void {
  const missing = inject("dockerObstacle");
  if (missing !== null && required) throw new Error(`SLIPWAY_REQUIRE_ENGINES=1, but ${missing}: run scripts/engine.sh`);
  describe.runIf(missing === null)(`${name}${missing === null ? "" : ` (skipped: ${missing})`}`, suite);
}

/**
 * In a test or its beforeEach: skips it with the reason where file systems in files cannot be
 * mounted. Throws instead when engines are required.
 */
export async function needsLoops(skip: (note: string) => void): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-loops-"));
  const missing = await new LoopDevices(dir).obstacle();
  rmSync(dir, { recursive: true, force: true });
  if (missing !== null && required)
    throw new Error(`SLIPWAY_REQUIRE_ENGINES=1, but there are no loop devices: ${missing}`);
  if (missing !== null) skip(`no loop devices: ${missing}`);
}

/** A client with which tests inspect the engine. */
export function dockerClient(): Docker {
  return new Docker(dockerOptions());
}
