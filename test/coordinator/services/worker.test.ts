/**
 * What the desk takes from a worker: each event once, in order, whatever is sent again or lost on
 * the way.
 */
import { afterEach, beforeEach, expect, it } from "vitest";
import { SequenceGap, SlipwayError } from "../../../src/core/error.ts";
import type { WorkerAck } from "../../../src/core/protocol/worker.ts";
import { settle } from "../../support/manual-clock.ts";
import { openHarness, type Harness } from "../../support/coordinator/harness.ts";

let harness: Harness;
let id: string;

/** A task whose worker has said one event: `ready`. */
beforeEach(async () => {
  harness = await openHarness();
  ({ id } = await harness.submit());
  await harness.until(id, "provisioning");
  for (let i = 0; i < 100 && !harness.fakeWorkers.has(id); i += 1) await settle();
  await harness.fakeWorkers.say(harness.coordinator.workerApi, id, ["ready", {}]);
  await harness.until(id, "running");
});
afterEach(() => harness.close());

/** Messages m<seq> of attempt 1, as one batch. */
function send(...numbers: readonly number[]): Promise<WorkerAck> {
  const at = new Date().toISOString();
  const content = [{ type: "text", text: "hello" }];
  return harness.coordinator.workerApi.accept(id, {
    attempt: 1,
    events: numbers.map((seq) => ({ seq, at, type: "message", data: { id: `m${seq}`, role: "assistant", content } })),
  });
}

/** The worker's numbers in the log, in its order. */
async function taken(): Promise<number[]> {
  return (await harness.store.events(id, 0, 1_000)).items.flatMap(({ workerSeq }) => workerSeq ?? []);
}

it("[W1] what is sent again is acknowledged and not taken again; what is new in the same batch is taken", async () => {
  expect((await send(2, 3)).ack).toBe(3);
  expect((await send(2, 3)).ack).toBe(3);
  expect((await send(2, 3, 4)).ack).toBe(4);
  expect(await taken()).toEqual([1, 2, 3, 4]);
  expect((await harness.store.messages(id, 0, 100)).items.map((message) => message.id)).toEqual(["m2", "m3", "m4"]);
});

it("[W1] the same batch twice at the same time is taken once", async () => {
  const acks = await Promise.all([send(2, 3), send(2, 3), send(2, 3, 4)]);
  expect(acks.map(({ ack }) => ack)).toEqual([3, 3, 4]);
  expect(await taken()).toEqual([1, 2, 3, 4]);
});

it("[W1] after a restart the next coordinator knows what was taken", async () => {
  await send(2, 3);
  await harness.restart();
  expect((await send(2, 3, 4)).ack).toBe(4);
  expect(await taken()).toEqual([1, 2, 3, 4]);
});

it("[W2] a batch after a hole is refused whole, with the number to go on from", async () => {
  await send(2);
  const refused: unknown = await send(4, 5).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(SequenceGap);
  expect(refused).toBeInstanceOf(SlipwayError);
  expect(refused).toMatchObject({ code: "sequence_gap", ack: 2 });
  expect(await taken()).toEqual([1, 2]);
  expect((await send(3, 4, 5)).ack).toBe(5);
  expect(await taken()).toEqual([1, 2, 3, 4, 5]);
});
