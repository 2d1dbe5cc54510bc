/** Holds the source to the one place that starts processes. */
import { expect, it } from "vitest";
import { readSource, sourceFiles } from "./source-files.ts";

const GUARD = "src/core/lib/runtime/process-group.ts";
/** Runs inside of a container, as text. */
const EXCEPTIONS = ["src/sandbox/docker/image/image-probe.ts"];

it(`[Y3] no file starts a process but ${GUARD}`, () => {
  const files = sourceFiles(["src", "worker", "machines"]);
  const importers = files.filter((file) => /["'](node:)?(child_process|cluster)["']/.test(readSource(file)));
  expect(importers.toSorted()).toEqual([GUARD, ...EXCEPTIONS].toSorted());
});
