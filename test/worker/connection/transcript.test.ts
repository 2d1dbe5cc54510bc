/**
 * The transcript over the real broker: a coordinator that goes away, duplicates, another process of
 * the same worker, the fence.
 */
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { RECORD_BYTES } from "../../../src/core/ports/records/transcripts.ts";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import { HttpLink } from "../../../worker/connection/http-link.ts";
import { Journal } from "../../../worker/connection/journal.ts";
import { StaleAttempt } from "../../../worker/connection/link.ts";
import { openTranscript } from "../../../worker/connection/transcript.ts";
import { Rig } from "../rig.ts";

let rig: Rig;
let links: HttpLink[] = [];
const never = new AbortController().signal;

beforeEach(async () => {
  rig = await Rig.open();
});
afterEach(async () => {
  await Promise.all(links.map(async (link) => await link.close()));
  links = [];
  await rig.close();
});

async function dial() {
  const { attempt } = rig.workerApi;
  const { socketDir, token } = await rig.broker.open(rig.workerApi.taskId, attempt);
  const journal = new Journal(rig.state, attempt);
  const link = new HttpLink({ socketPath: join(socketDir, "b.sock"), token, attempt, journal, clock: systemClock });
  links.push(link);
  return await openTranscript(link, (await link.spec(never)).transcript, never);
}

const stored = (): unknown[] =>
  rig.workerApi.transcripts.records(rig.workerApi.taskId, 0, 1e9).map(({ json }) => JSON.parse(json) as unknown);

it("[X1] [X3] 300 records through a coordinator that goes away 5 times are there once and in order", async () => {
  const transcript = await dial();
  let written = 0;
  const writing = (async () => {
    for (let n = 1; n <= 300; n += 1) {
      await transcript.append({ n });
      expect(rig.workerApi.transcripts.last(rig.workerApi.taskId)).toBeGreaterThanOrEqual(n);
      written = n;
    }
  })();
  for (let away = 0; away < 5; away += 1) {
    const before = written;
    await rig.workerApi.until(() => written > before + 30);
    await rig.broker.close();
    await systemClock.sleep(40);
    rig.newBroker();
    await rig.broker.open(rig.workerApi.taskId, 1);
  }
  await writing;
  expect(stored()).toEqual(Array.from({ length: 300 }, (_, i) => ({ n: i + 1 })));
});

it("[X2] the next attempt reads the records of the earlier one, over more than one page", async () => {
  const first = await dial();
  const text = "x".repeat(400_000);
  for (const n of [1, 2, 3, 4]) await first.append({ n, text });
  expect(first.records).toEqual([]);
  rig.workerApi.next();
  const second = await dial();
  expect(second.records.map(({ attempt, data }) => [attempt, data["n"]])).toEqual([1, 2, 3, 4].map((n) => [1, n]));
  await second.append({ n: 5 });
  await expect(first.append({ n: 5 })).rejects.toBeInstanceOf(StaleAttempt);
  expect(rig.workerApi.transcripts.records(rig.workerApi.taskId, 4, 1e6)).toEqual([
    { n: 5, attempt: 2, json: '{"n":5}' },
  ]);
});

it("concurrent appends keep their order", async () => {
  const transcript = await dial();
  await Promise.all([1, 2, 3, 4, 5].map((n) => transcript.append({ n })));
  expect(stored()).toEqual([1, 2, 3, 4, 5].map((n) => ({ n })));
});

it("a record that the coordinator rejects fails the agent with the coordinator's message", async () => {
  const transcript = await dial();
  await expect(transcript.append({ text: "x".repeat(RECORD_BYTES) })).rejects.toMatchObject({ code: "agent_error" });
  const other = await dial();
  await other.append({ mine: true });
  const late = await dial();
  await other.append({ mine: 2 });
  await expect(late.append({ mine: 3 })).rejects.toMatchObject({ code: "agent_error" });
});
