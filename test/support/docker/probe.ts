/** Asked once per run (global-setup.ts), because every file with tests on Docker wants to know. */
import Docker from "dockerode";
import { dockerOptions } from "../../../src/sandbox/docker/engine.ts";

export const BASE_IMAGE = "node:24-bookworm-slim";

/** How long an engine may take to answer, ms. */
const PATIENCE_MS = 20_000;

/** @returns why tests on Docker cannot run here, or null when they can. */
export async function dockerObstacle(): Promise<string | null> {
  const docker = new Docker({ ...dockerOptions(), timeout: PATIENCE_MS });
  try {
    await docker.ping();
  } catch {
    return "no Docker engine answers";
  }
  const hasImage = await docker
    .getImage(BASE_IMAGE)
    .inspect()
    .then(
      () => true,
      () => false,
    );
  return hasImage ? null : `no image ${BASE_IMAGE}`;
}
