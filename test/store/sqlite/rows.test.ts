/** The cache of the immutable parts of tasks. */
import { expect, it } from "vitest";
import { CoreCache } from "../../../src/store/sqlite/tables/rows.ts";
import type { TaskCore } from "../../../src/store/shared/task-record.ts";
import { PLAIN_SPEC } from "../../support/task-spec.ts";

const core = (size: number): TaskCore => ({
  userId: "user_a",
  threadId: "t",
  parentId: null,
  spec: PLAIN_SPEC,
  machineVersion: 1,
  createdAt: 0,
  size,
});
const held = (cache: CoreCache, count: number): number[] =>
  Array.from({ length: count }, (_, i) => i).filter((i) => cache.get(String(i)) !== undefined);

it("[F6] the cache keeps the most recently used specs, bounded in number and in characters", () => {
  const small = new CoreCache();
  for (let i = 0; i < 1_100; i++) small.set(String(i), core(10));
  expect(held(small, 1_100)).toEqual(Array.from({ length: 1_024 }, (_, i) => 76 + i));

  const large = new CoreCache();
  for (let i = 0; i < 100; i++) large.set(String(i), core(1_000_000));
  expect(held(large, 100)).toEqual([92, 93, 94, 95, 96, 97, 98, 99]);
  // Setting the same task again takes no more space, and recently used entries stay.
  large.set("93", core(1_000_000));
  large.get("92");
  large.set("new", core(1_000_000));
  expect(held(large, 100)).toEqual([92, 93, 95, 96, 97, 98, 99]);
  large.set("vast", core(100_000_000));
  expect(held(large, 100)).toEqual([]);
  large.set("0", core(10));
  expect(held(large, 100)).toEqual([0]);
});
