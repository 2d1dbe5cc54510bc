/** What a person has read, live: on all of their devices, and on nobody else's. */
import { afterEach, beforeEach, expect, it } from "vitest";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { ALICE, OPERATOR, openLiveServer, until, type LiveServer } from "./live-server.ts";
import { connectClient, type StreamClient } from "./stream-client.ts";

const OTHER = { ...OPERATOR, userId: "user_opb", sessionId: "s_opb" };
let server: LiveServer;
beforeEach(async () => {
  server = await openLiveServer();
  server.people.set(`token-${OTHER.userId}`, OTHER);
});
afterEach(() => server.close());

const open = async (who: string, topic: string, after: number | null = null): Promise<StreamClient> => {
  const client = await connectClient(server.url, `token-${who}`);
  client.subscribe(topic, after);
  return client;
};
const rows = (client: StreamClient, topic: string): (readonly [string, number, number])[] =>
  client
    .batches(topic)
    .flatMap(({ items }) => items as WireTask[])
    .map(({ id, notableSeq, readSeq }) => [id, notableSeq, readSeq] as const);
/** As the service does it: marked, then announced. */
async function read(userId: string, taskId: string, seq: number): Promise<void> {
  if (await server.store.markRead(userId, taskId, seq)) server.bus.publishRead(userId);
}

it("[V11] what is read on one device is read on the others, live and after a time away; nobody else is sent anything", async () => {
  const { id } = await server.writer.create(ALICE.userId);
  await server.writer.settle(id);
  const devices = await Promise.all([open(ALICE.userId, "tasks"), open(ALICE.userId, "tasks")]);
  const operator = await open(OPERATOR.userId, "tasks:all");
  await until("the lists", () => [...devices].every((client) => rows(client, "tasks").length === 1));
  await until("the list of all", () => rows(operator, "tasks:all").length === 1);
  const [phone, laptop] = devices as [StreamClient, StreamClient];
  expect(rows(laptop, "tasks")).toEqual([[id, 2, 0]]);
  const before = laptop.batches("tasks").at(-1)?.cursor ?? 0;
  laptop.drop();

  await read(ALICE.userId, id, 2);
  await until("the mark", () => rows(phone, "tasks").length === 2);
  // Again, and less: nothing is written, so nothing is sent.
  await read(ALICE.userId, id, 2);
  await read(ALICE.userId, id, 1);
  const later = await server.writer.create(ALICE.userId);
  await until("what came later", () => rows(operator, "tasks:all").length === 2 && rows(phone, "tasks").length === 3);
  expect(rows(phone, "tasks")).toEqual([
    [id, 2, 0],
    [id, 2, 2],
    [later.id, 0, 0],
  ]);
  expect(rows(operator, "tasks:all").map(([of]) => of)).toEqual([id, later.id]);

  const back = await open(ALICE.userId, "tasks", before);
  await until("what the laptop missed", () => rows(back, "tasks").length === 2);
  expect(rows(back, "tasks")).toEqual([
    [id, 2, 2],
    [later.id, 0, 0],
  ]);
  // The cursor of a mark is one to go on from.
  const cursor = phone.batches("tasks").find(({ items }) => (items[0] as WireTask).readSeq === 2)?.cursor ?? 0;
  const again = await open(ALICE.userId, "tasks", cursor);
  await until("what came after the mark", () => rows(again, "tasks").length === 1);
  expect([rows(again, "tasks"), again.errors()]).toEqual([[[later.id, 0, 0]], []]);
});

it("[V11] an operator who watches the tasks of all has their own marks there, and another one has not", async () => {
  const { id } = await server.writer.create(OPERATOR.userId);
  await server.writer.settle(id);
  const [own, other] = [await open(OPERATOR.userId, "tasks:all"), await open(OTHER.userId, "tasks:all")];
  await until("the lists", () => rows(own, "tasks:all").length === 1 && rows(other, "tasks:all").length === 1);
  await read(OPERATOR.userId, id, 2);
  await until("the mark", () => rows(own, "tasks:all").at(-1)?.[2] === 2);
  const later = await server.writer.create(ALICE.userId);
  for (const client of [own, other])
    await until("what came later", () => rows(client, "tasks:all").at(-1)?.[0] === later.id);
  expect([rows(own, "tasks:all").length, rows(other, "tasks:all").length]).toEqual([3, 2]);
  own.drop();
  other.drop();
  await until("empty channels are gone", () => server.hub.channels() === 0);
});
