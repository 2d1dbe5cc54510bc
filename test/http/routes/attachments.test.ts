/**
 * Attachments over HTTP: uploads, who may read them, and how they come with prompts and messages.
 */
import { readdirSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Attachment } from "../../../src/core/values/attachment.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { png } from "../../store/attachments/pictures.ts";
import { LOCAL_TOKEN, openApiServer, REPO, type Answered, type ApiServer, type Asked } from "../api-server.ts";

const DAY = 24 * 3_600_000;
let api: ApiServer;
let ada: string;
let bob: string;
let adaId: string;
beforeAll(async () => {
  api = await openApiServer();
  ({ accessToken: ada, userId: adaId } = await api.person("ada@example.com"));
  bob = (await api.person("bob@example.com")).accessToken;
});
afterAll(() => api.close());

const upload = (name: string, raw: string | Uint8Array, asked: Asked = {}): Promise<Answered> =>
  api.call("POST", `/v1/attachments?name=${encodeURIComponent(name)}`, {
    token: ada,
    raw,
    ...asked,
    headers: { "content-type": "application/octet-stream", ...asked.headers },
  });
const uploaded = async (name: string, raw: string | Uint8Array, token = ada): Promise<Attachment> => {
  const answer = await upload(name, raw, { token });
  expect(answer.status, answer.text).toBe(201);
  return answer.body as Attachment;
};
const download = (id: string, token = ada) =>
  fetch(`http://127.0.0.1:${api.port}/v1/attachments/${id}`, { headers: { authorization: `Bearer ${token}` } });
const submit = (attachments: string[], token = ada, more: Asked = {}) =>
  api.call("POST", "/v1/tasks", { token, body: { repo: REPO, prompt: "Look.", attachments }, ...more });
const folder = (): string[] => readdirSync(join(api.harness.dir, "attachments"));

async function running(): Promise<string> {
  const { id } = (await submit([])).body as WireTask;
  await api.harness.untilWorker(id);
  await api.harness.fakeWorkers.send(api.harness.coordinator.workerApi, id, ["ready", {}]);
  return id;
}

describe("uploads", () => {
  it("[U1] a picture is shown as what its bytes are, and runs nothing", async () => {
    const bytes = png(40, 20);
    const attachment = await uploaded("Grüße.png", bytes);
    expect(attachment).toMatchObject({ name: "Grüße.png", mediaType: "image/png", width: 40, height: 20 });
    const answer = await download(attachment.id);
    expect(Buffer.from(await answer.arrayBuffer())).toEqual(bytes);
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      "content-type": "image/png",
      "content-length": String(bytes.length),
      "content-disposition": `inline; filename="Gr__e.png"; filename*=UTF-8''Gr%C3%BC%C3%9Fe.png`,
      "content-security-policy": expect.stringMatching(/^default-src 'none'; sandbox;/),
      "x-content-type-options": "nosniff",
      "cache-control": "no-store",
    });
  });

  it("[U1] a page, an SVG and a picture by name alone are downloads of bytes", async () => {
    const page = "<script>alert(1)</script>";
    for (const [name, type] of [
      ["a.html", "text/html"],
      ["a.svg", "image/svg+xml"],
      ["a.png", "image/png"],
    ] as const) {
      const { body } = await upload(name, `${name} ${page}`, { headers: { "content-type": type } });
      expect(body).toMatchObject({ mediaType: "text/plain", width: null });
      const answer = await download((body as Attachment).id);
      expect(answer.headers.get("content-type")).toBe("application/octet-stream");
      expect(answer.headers.get("content-disposition")).toMatch(/^attachment; /);
      await answer.body?.cancel();
    }
  });

  it("[U1] a name cannot end a header or leave its folder", async () => {
    const { id, name } = await uploaded('../x"\r\nSet-Cookie: a=b;\u202e.txt', "name");
    expect(name).toBe('x"Set-Cookie: a=b;.txt');
    const answer = await download(id);
    expect(answer.headers.get("set-cookie")).toBeNull();
    expect(answer.headers.get("content-disposition")).toBe(
      `attachment; filename="x_Set-Cookie_ a_b_.txt"; filename*=UTF-8''x%22Set-Cookie%3A%20a%3Db%3B.txt`,
    );
    await answer.body?.cancel();
  });

  it("[U3] too much, a form and a packed body are refused, and nothing stays", async () => {
    const before = folder();
    expect((await upload("big", Buffer.alloc(2 ** 20 + 1))).body).toMatchObject({ code: "payload_too_large" });
    for (const headers of [{ "content-type": "multipart/form-data; boundary=x" }, { "content-encoding": "gzip" }])
      expect((await upload("a", "a", { headers })).body).toMatchObject({ code: "unsupported_media_type" });
    expect((await upload("", "a")).body).toMatchObject({ code: "invalid_request" });
    expect((await api.call("POST", "/v1/attachments", { token: ada, raw: "a" })).status).toBe(400);
    expect((await upload("a", "a", { headers: { authorization: "Bearer x" } })).status).toBe(401);
    expect(folder()).toEqual(before);
  });

  it("[U3] a connection that ends half-way leaves nothing", async () => {
    const before = folder();
    const socket = connect(api.port, "127.0.0.1");
    socket.on("error", () => undefined);
    const head = `POST /v1/attachments?name=half HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${ada}\r\n`;
    socket.write(`${head}content-length: 5000\r\n\r\nhalf of it`);
    await expect.poll(() => folder().length).toBe(before.length + 1);
    socket.destroy();
    await expect.poll(folder).toEqual(before);
    expect(api.lines.filter(({ level }) => level === "error")).toEqual([]);
  });

  it("[R5] sent again with its key it is one upload; another file with that key is refused", async () => {
    const headers = { "idempotency-key": "photo-1" };
    const [first, second] = await Promise.all([upload("k", "one", { headers }), upload("k", "one", { headers })]);
    expect([first.status, second.status, second.body]).toEqual([201, 201, first.body]);
    const before = folder();
    expect((await upload("k", "two", { headers })).body).toMatchObject({ code: "idempotency_mismatch" });
    expect(folder()).toEqual(before);
  });

  it("[U3] the limits are announced", async () => {
    const { attachments } = (await api.call("GET", "/v1/config", { token: ada })).body;
    expect(attachments).toEqual({ count: 10, fileBytes: 2 ** 20, personBytes: 4 * 2 ** 20 });
  });
});

describe("[U2] whose attachments they are", () => {
  it("another person's, an unknown and a malformed id begin nothing", async () => {
    const { id } = await uploaded("mine.txt", "mine");
    const tasks = async () => (await api.store.tasks({ userId: null, limit: 200 })).items.length;
    const before = await tasks();
    expect((await submit([id], bob)).body).toMatchObject({ status: 404, code: "not_found" });
    expect((await submit([`att_${"0".repeat(26)}`])).body).toMatchObject({ status: 404 });
    for (const bad of [["../x"], [id, id], Array.from({ length: 11 }, (_, n) => `att_${"0".repeat(24)}${n + 10}`)])
      expect((await submit(bad)).body).toMatchObject({ code: "invalid_request" });
    expect(await tasks()).toBe(before);
    const task = await running();
    const message = { text: "x", attachments: [(await uploaded("bobs", "bobs", bob)).id] };
    expect((await api.call("POST", `/v1/tasks/${task}/messages`, { token: ada, body: message })).status).toBe(404);
    expect((await download(id, bob)).status).toBe(404);
    expect((await download(id, LOCAL_TOKEN)).status).toBe(200);
  });

  it("what an operator gives to a task is seen by its owner", async () => {
    const task = await running();
    const { id } = await uploaded("hint.txt", "a hint", LOCAL_TOKEN);
    expect((await download(id)).status).toBe(404);
    const message = { text: "See this.", attachments: [id] };
    await api.call("POST", `/v1/tasks/${task}/messages`, { token: LOCAL_TOKEN, body: message });
    expect(await (await download(id)).text()).toBe("a hint");
    expect((await download(id, bob)).status).toBe(404);
  });
});

describe("prompts and messages", () => {
  const give = async (name: string) => (await uploaded(name, `content of ${name}`)).id;
  const ids = (list: readonly { id: string }[]): string[] => list.map(({ id }) => id);

  it("[V3] the row of the task and of the message list them", async () => {
    const one = await uploaded("one.txt", "one");
    const task = (await submit([one.id])).body as WireTask;
    expect(task.attachments).toEqual([one]);
    const open = await running();
    const two = await uploaded("two.png", png(3, 4));
    const body = { text: "And this.", attachments: [two.id] };
    const headers = { "idempotency-key": "with-two" };
    const sent = await api.call("POST", `/v1/tasks/${open}/messages`, { token: ada, body, headers });
    expect(sent.body.content).toEqual([
      { type: "text", text: "And this." },
      { type: "attachment", ...two },
    ]);
    const again = await api.call("POST", `/v1/tasks/${open}/messages`, { token: ada, body, headers });
    expect(again.body).toEqual(sent.body);
    const other = { ...body, attachments: [] };
    expect(
      (await api.call("POST", `/v1/tasks/${open}/messages`, { token: ada, body: other, headers })).body,
    ).toMatchObject({ code: "idempotency_mismatch" });
    const { items } = (await api.call("GET", `/v1/tasks/${open}/messages`, { token: ada })).body;
    expect(items).toEqual([sent.body]);
    const log = (await api.call("GET", `/v1/tasks/${open}/events?limit=1000`, { token: ada })).body.items;
    expect(log.find(({ type }: { type: string }) => type === "message").data.content[1]).toEqual({
      type: "attachment",
      ...two,
    });
  });

  it("[S3] a worker gets what its own task was given, while its attempt lasts", async () => {
    const { workerApi } = api.harness.coordinator;
    const [mine, other] = [await give("mine"), await give("other")];
    const { id } = (await submit([mine])).body as WireTask;
    await submit([other]);
    await api.harness.untilWorker(id);
    const parts: Uint8Array[] = [];
    for await (const part of (await workerApi.attachment(id, 1, mine)).content) parts.push(part);
    expect(Buffer.concat(parts).toString()).toBe("content of mine");
    for (const not of [other, "../x", `att_${"0".repeat(26)}`])
      await expect(workerApi.attachment(id, 1, not)).rejects.toMatchObject({ code: "not_found" });
    await expect(workerApi.attachment(id, 2, mine)).rejects.toMatchObject({ code: "stale_attempt" });
  });

  it("[U4] retries and follow-ups have what the thread had, and a request sent again gives nothing", async () => {
    const [one, two, three] = [await give("1"), await give("2"), await give("3")];
    const headers = { "idempotency-key": "thread" };
    const first = (await submit([one], ada, { headers })).body as WireTask;
    expect(((await submit([one], ada, { headers })).body as WireTask).id).toBe(first.id);
    expect(await api.harness.attachments.tasksOf(one)).toEqual([first.id]);
    const say = { token: ada, body: { text: "x", attachments: [two] } };
    await api.call("POST", `/v1/tasks/${first.id}/messages`, say);
    await api.call("POST", `/v1/tasks/${first.id}/cancel`, { token: ada });
    await api.harness.until(first.id, "cancelled");
    const retry = (await api.call("POST", `/v1/tasks/${first.id}/retry`, { token: ada, body: {} })).body as WireTask;
    expect(ids(retry.attachments)).toEqual([one]);
    await api.call("POST", `/v1/tasks/${retry.id}/cancel`, { token: ada });
    await api.harness.until(retry.id, "cancelled");
    const more = { text: "Go on.", attachments: [three] };
    const next = (await api.call("POST", `/v1/tasks/${retry.id}/messages`, { token: ada, body: more }))
      .body as WireTask;
    expect(ids(next.attachments)).toEqual([three]);
    const { earlierAttachments = [] } = (await api.harness.task(next.id)).spec;
    expect(ids(earlierAttachments)).toEqual([two, one]);
    for (const id of [one, two, three]) expect(await api.harness.attachments.isGiven(id, next.id)).toBe(true);
  });

  it("[U4] unread messages take theirs to the follow-up task", async () => {
    const id = await running();
    const late = await give("late");
    const say = { text: "One more thing.", mode: "follow_up", attachments: [late] };
    await api.call("POST", `/v1/tasks/${id}/messages`, { token: ada, body: say });
    const { fakeWorkers, coordinator, repos } = api.harness;
    const sha = await repos.commit(id, "refs/slipway/work", "done");
    await fakeWorkers.send(coordinator.workerApi, id, ["finished", { sha, title: "t", summary: "s" }]);
    await api.harness.until(id, "done");
    const { items } = await api.store.tasks({ userId: adaId, limit: 1 });
    expect(items[0]?.parentId).toBe(id);
    expect(ids(items[0]?.spec.attachments ?? [])).toEqual([late]);
    expect(items[0]?.spec.prompt).toBe("One more thing.");
    expect(await api.harness.attachments.isGiven(late, items[0]?.id ?? "")).toBe(true);
  });

  it("[U4] garbage is what no task has for a week, and what only tasks had that are gone", async () => {
    const [unused, used, lost] = [await give("unused"), await give("used"), await give("lost")];
    const { id } = (await submit([used])).body as WireTask;
    await api.harness.attachments.give(lost, `task_${"0".repeat(26)}`);
    const collect = async () => {
      const found = await api.harness.coordinator.garbageCollector.collect("remove", new AbortController().signal);
      return found.flatMap(({ kind, name }) => (kind === "attachment" ? [name] : []));
    };
    expect(await collect()).toEqual([]);
    await api.call("POST", `/v1/tasks/${id}/cancel`, { token: ada });
    await api.harness.until(id, "cancelled");
    api.clock.setWall(8 * DAY);
    const first = await collect();
    expect(first).toContain(unused);
    expect(first).not.toContain(used);
    api.clock.setWall(31 * DAY);
    expect(await collect()).toEqual(expect.arrayContaining([used, lost]));
    expect((await download(used, LOCAL_TOKEN)).status).toBe(404);
  });
});
