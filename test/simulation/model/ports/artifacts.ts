/** Artifacts in memory, on a disk that may be full. */
import type { Artifacts } from "../../../../src/core/ports/files/artifacts.ts";
import { artifactName, type Artifact } from "../../../../src/core/values/artifact.ts";
import type { Faults } from "../faults.ts";
import type { Domain, VirtualTime } from "../virtual-time.ts";

export type Kept = Map<string, Map<number, Artifact>>;

export function openArtifacts(kept: Kept, faults: Faults, time: VirtualTime, domain: Domain): Artifacts {
  return {
    async keep({ taskId, attempt, tar }, signal) {
      const known = kept.get(taskId)?.get(attempt);
      if (known !== undefined) return known;
      let bytes = 0;
      for await (const chunk of tar) bytes += chunk.byteLength;
      await time.wait(domain, 5, signal);
      if (faults.until("store.full") !== null) throw new Error("ENOSPC: no space left on device");
      const artifact: Artifact = {
        name: artifactName(attempt),
        attempt,
        at: 0,
        bytes,
        files: 1,
        sha256: "0".repeat(64),
        note: null,
      };
      kept.set(taskId, (kept.get(taskId) ?? new Map<number, Artifact>()).set(attempt, artifact));
      return artifact;
    },
    list: async (taskId) => [...(kept.get(taskId)?.values() ?? [])],
    open: async () => null,
    usage: async () => [...kept.keys()].map((taskId) => ({ taskId, bytes: 1, at: 0 })),
    remove: async (taskId) => void kept.delete(taskId),
  };
}
