/**
 * What happens to an installation on Docker under kills. Each fault ends with everything started.
 */
import type Docker from "dockerode";
import { setTimeout as delay } from "node:timers/promises";
import type { Installation } from "../../support/docker/installation.ts";
import type { PrivateEngine } from "../../support/docker/private-engine.ts";

export interface DockerFaults {
  readonly counts: {
    /** Of the coordinator. */
    readonly kills: number;
    readonly engineEnds: number;
    readonly containerRestarts: number;
  };
  /** The next fault, after some time. */
  strike(): Promise<void>;
}

interface DockerFaultsDeps {
  readonly installation: Installation;
  /** Null = the engine is left alone. */
  readonly engine: PrivateEngine | null;
  readonly docker: Docker;
  readonly random: () => number;
}

/**
 * Of as many faults one is of the engine and one of a container; the others kill the coordinator.
 */
const ROUND = 5;
const STOP_S = 1;

export function createDockerFaults({ installation, engine, docker, random }: DockerFaultsDeps): DockerFaults {
  const counts = { kills: 0, engineEnds: 0, containerRestarts: 0 };
  let startMs = 0;
  let strikes = 0;

  async function killCoordinator(): Promise<void> {
    await installation.kill("SIGKILL");
    counts.kills += 1;
  }

  async function start(): Promise<void> {
    const begun = Date.now();
    await installation.start();
    startMs = Date.now() - begun;
  }

  /** SIGKILL, or SIGTERM as of a restart; under a coordinator that lives, or dies as well. */
  async function endEngine(by: PrivateEngine, how: "kill" | "stop", withCoordinator: boolean): Promise<void> {
    if (withCoordinator) await killCoordinator();
    await by[how]();
    // The coordinator starts first, without an engine.
    if (withCoordinator) await start();
    await by.start();
    counts.engineEnds += 1;
  }
  const engineFaults = ([true, false] as const).flatMap((withCoordinator) =>
    (["kill", "stop"] as const).map((how) => (by: PrivateEngine) => endEngine(by, how, withCoordinator)),
  );
  let engineTurn = Math.floor(random() * 2);

  /** `docker restart`: the worker is stopped, and another one starts in the same container. */
  async function restartContainer(): Promise<void> {
    const running = (await installation.containers()).filter(({ State }) => State === "running");
    const victim = running[Math.floor(random() * running.length)];
    if (victim === undefined) return;
    const restarted = await docker
      .getContainer(victim.Id)
      .restart({ t: STOP_S })
      .then(
        () => true,
        // It ended or was removed meanwhile.
        () => false,
      );
    if (restarted) counts.containerRestarts += 1;
  }

  return {
    counts,
    async strike() {
      // A slow start extends the delay; otherwise every coordinator would be killed before it does
      // anything.
      await delay(200 + random() * 1_300 + startMs);
      const turn = strikes++ % ROUND;
      if (turn === ROUND - 1) return await restartContainer();
      if (turn === 1 && engine !== null) return await engineFaults[engineTurn++ % engineFaults.length]?.(engine);
      await killCoordinator();
      await start();
    },
  };
}
