/**
 * A start with many open tasks: time from opening the database to the first claim, and the memory
 * that open tasks take.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { openSqliteStore } from "../../src/store/sqlite/store.ts";
import { openBenchCoordinator } from "./lifecycle.ts";
import { packageRoot } from "../../src/core/lib/runtime/package-root.ts";
import { openBenchStore } from "../support.ts";

export interface Boot {
  readonly firstClaimMs: number;
  readonly idleMb: number;
  readonly perThousandMb: number;
}

const rss = (): number => {
  globalThis.gc?.();
  return process.memoryUsage().rss / 2 ** 20;
};

export async function boot(open = 10_000): Promise<Boot> {
  const made = await openBenchStore();
  const idleMb = rss();
  const filler = await openBenchCoordinator(1, { store: made.store, close: () => Promise.resolve() });
  for (let i = 0; i < open; i += 500) {
    const submits = Array.from({ length: 500 }, (_, n) =>
      filler.coordinator.tasks.submit(
        { userId: `user_${n % 20}`, role: "user" },
        { repo: "https://git.example.com/team/app", prompt: "Wait." },
        null,
      ),
    );
    await Promise.all(submits);
  }
  const fullMb = rss();
  await filler.close();
  await made.store.close();

  const begun = performance.now();
  const { store } = openSqliteStore({ dir: made.dir, migrations: join(packageRoot(), "migrations", "sqlite") });
  const bench = await openBenchCoordinator(1, { store, close: () => store.close() });
  const claimed = new Promise<number>((resolve) => {
    bench.coordinator.taskLog.onCommit((task) => task.state === "provisioning" && resolve(performance.now() - begun));
  });
  await bench.coordinator.boot();
  const firstClaimMs = await claimed;
  await bench.close();
  rmSync(made.dir, { recursive: true, force: true });
  return { firstClaimMs, idleMb, perThousandMb: ((fullMb - idleMb) / open) * 1_000 };
}
