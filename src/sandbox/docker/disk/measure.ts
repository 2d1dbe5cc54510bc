/** Measures the disk usage of a workspace. */
import { runTool, ToolExitError } from "../../../core/lib/runtime/process-group.ts";
import type { Engine } from "../engine.ts";

const TIMEOUT_MS = 60_000;

export interface DiskUsage {
  readonly bytes: number;
  readonly files: number;
}

/** A folder of this machine, without other file systems mounted in it. */
export async function measureDirectory(path: string): Promise<DiskUsage> {
  const [bytes, files] = await Promise.all([runDu(path, "--block-size=1"), runDu(path, "--inodes")]);
  return { bytes, files };
}

/** The engine reports the size of a volume, but not its number of files: `files` is 0. */
export async function measureVolume(engine: Engine, name: string | null): Promise<DiskUsage> {
  const usage: { Volumes?: readonly { Name: string; UsageData?: { Size: number } | null }[] | null } =
    await engine.call((docker) => docker.df(), undefined, TIMEOUT_MS);
  const volume = usage.Volumes?.find(({ Name }) => Name === name);
  return { bytes: volume?.UsageData?.Size ?? 0, files: 0 };
}

/** When files vanish while it reads, `du` fails but still prints the sum. */
async function runDu(path: string, unit: string): Promise<number> {
  const env = { PATH: process.env["PATH"] ?? "", LC_ALL: "C" };
  const stdout = await runTool("du", ["-sx", unit, "--", path], { env, timeoutMs: TIMEOUT_MS }).catch(
    (error: unknown) => {
      if (error instanceof ToolExitError && error.stdout !== "") return error.stdout;
      throw error;
    },
  );
  return Number(/^\d+/.exec(stdout)?.[0] ?? 0);
}
