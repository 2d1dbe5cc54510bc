import { expect, it } from "vitest";
import { memoryBus } from "../../src/app/memory-bus.ts";
import type { Delta, Hint } from "../../src/core/ports/runtime.ts";

it("[R4] a hint carries an address and nothing else, even when the caller passes more", () => {
  const bus = memoryBus();
  const heard: object[] = [];
  bus.onHint((hint) => heard.push(hint));
  bus.onDelta((delta) => heard.push(delta));
  const hint: Hint = { taskId: "task_1", userId: "user_1", seq: 7 };
  bus.publishHint({ ...hint, prompt: "secret", events: [1, 2] } as Hint);
  const delta: Delta = { taskId: "task_1", userId: "user_1", messageId: "m1", text: "abc" };
  bus.publishDelta({ ...delta, snapshot: {} } as Delta);
  expect(heard).toEqual([hint, delta]);
});

it("[R4] a listener that throws is logged and does not stop the others; a removed one is not called", async () => {
  const reports: object[] = [];
  const bus = memoryBus({ error: (fields) => void reports.push(fields) });
  const heard: number[] = [];
  bus.onHint(() => {
    throw new Error("broken");
  });
  const listener = (hint: Hint): void => void heard.push(hint.seq);
  const leave = bus.onHint(listener);
  bus.onHint(listener);
  const say = (seq: number): void => bus.publishHint({ taskId: "t", userId: "u", seq });
  say(1);
  leave();
  leave();
  say(2);
  expect(heard).toEqual([1, 1, 2]);
  expect(reports).toEqual([{ error: "broken" }, { error: "broken" }]);
  await bus.close();
  say(3);
  expect(heard).toEqual([1, 1, 2]);
});
