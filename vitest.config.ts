import { defineConfig } from "vitest/config";
import { PATIENCE_MS } from "./test/support/vitest/patience.ts";

/** Suites that start no server of their own: their files share a process, which saves its imports. */
const SHARED = ["auth", "broker", "client", "coordinator", "core", "http", "machines", "notifications", "store"];
const inFolders = (names: readonly string[]): string => `test/{${names.join(",")}}/**/*.test.ts`;

export default defineConfig({
  test: {
    globalSetup: ["test/support/vitest/global-setup.ts"],
    reporters: ["default", "./test/support/vitest/summary-reporter.ts"],
    // Output of tests is shown when they fail.
    silent: "passed-only",
    // Bounds for hangs only: tests wait for conditions, however slow the machine is.
    testTimeout: 3 * PATIENCE_MS,
    hookTimeout: 3 * PATIENCE_MS,
    expect: { poll: { timeout: PATIENCE_MS } },
    pool: "forks",
    maxWorkers: 4,
    projects: [
      { extends: true, test: { name: "shared", include: [inFolders(SHARED)], isolate: false } },
      { extends: true, test: { name: "alone", include: ["test/**/*.test.ts"], exclude: [inFolders(SHARED)] } },
    ],
  },
});
