/** The export of all that a person has. */
import { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { extract } from "tar-stream";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openApiServer, PASSWORD, REPO, type ApiServer } from "../../api-server.ts";

let api: ApiServer;
beforeAll(async () => {
  api = await openApiServer();
});
afterAll(() => api.close());

const get = (path: string, token: string, signal?: AbortSignal) =>
  fetch(`http://127.0.0.1:${api.port}${path}`, {
    headers: { authorization: `Bearer ${token}` },
    ...(signal === undefined ? {} : { signal }),
  });

async function unpack(response: Response): Promise<Map<string, string>> {
  expect([response.status, response.headers.get("content-type")]).toEqual([200, "application/gzip"]);
  const files = new Map<string, string>();
  const archive = extract();
  Readable.fromWeb(response.body as never)
    .pipe(createGunzip())
    .pipe(archive);
  for await (const entry of archive) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry) chunks.push(chunk as Buffer);
    files.set(entry.header.name, Buffer.concat(chunks).toString());
  }
  return files;
}

async function submit(token: string, prompt: string, attachments: string[] = []): Promise<string> {
  const { body } = await api.call("POST", "/v1/tasks", { token, body: { repo: REPO, prompt, attachments } });
  await api.harness.untilWorker(body.id);
  return body.id as string;
}

it("[R10] the archive has what a person has, no secret, and nothing of anybody else", async () => {
  const ann = await api.person("ann@example.com");
  const ben = await api.person("ben@example.com", "operator");
  const secrets = [
    "tok-secret-value",
    "cred-secret-value",
    "var-secret-value",
    PASSWORD,
    ann.accessToken,
    ann.refreshToken,
  ];
  const made = await api.call("POST", "/v1/tokens", { token: ann.accessToken, body: { name: "ci" } });
  secrets.push(made.body.token);
  const post = (path: string, body: object) => api.call("POST", path, { token: ann.accessToken, body });
  await post("/v1/credentials", { host: "git.example.com", kind: "token", token: "cred-secret-value" });
  await post("/v1/variables", { repo: REPO, name: "SECRET", value: "var-secret-value" });
  await post("/v1/variables", { repo: REPO, name: "PLAIN", value: "sweet", secret: false });
  const file = await api.call("POST", "/v1/attachments?name=a.txt", {
    token: ann.accessToken,
    raw: "what was attached",
  });
  const id = await submit(ann.accessToken, "Ann's prompt.", [file.body.id]);
  const work = (
    ...events: Parameters<typeof api.harness.fakeWorkers.send> extends [unknown, unknown, ...infer R] ? R : never
  ) => api.harness.fakeWorkers.send(api.harness.coordinator.workerApi, id, ...events);
  await work(["ready", {}], ["tool.started", { id: "t1", name: "bash", input: { command: "ls" } }]);
  await work(["message", { id: "m1", role: "assistant", content: [{ type: "text", text: "Said by the agent." }] }]);
  await work(["question", { id: "q1", question: "Tabs?", options: null }]);
  const { seq } = (await post(`/v1/tasks/${id}/read`, { seq: 9_000 })).body;
  const foreign = await submit(ben.accessToken, "Ben's prompt.");
  await api.call("POST", `/v1/tasks/${id}/cancel`, { token: ben.accessToken });

  const files = await unpack(await get("/v1/me/export", ann.accessToken));
  const text = [...files].flat().join("\n");
  for (const secret of secrets) expect(text).not.toContain(secret);
  const rows = await Promise.all([api.accounts.tokens(ann.userId), api.accounts.openSessions(ann.userId)]);
  const hashes = [rows[0][0]?.hash, rows[1][0]?.tokenHash, (await api.accounts.credentials(ann.userId))[0]?.sealed];
  for (const hash of hashes) expect(text).not.toContain(hash!);
  for (const other of [foreign, "Ben's prompt.", "ben@example.com"]) expect(text).not.toContain(other);
  expect(JSON.parse(files.get("profile.json")!)).toMatchObject({ id: ann.userId, email: "ann@example.com" });
  expect(JSON.parse(files.get("tokens.json")!)).toMatchObject([{ name: "ci" }]);
  expect(JSON.parse(files.get("credentials.json")!)).toMatchObject([{ host: "git.example.com" }]);
  expect(JSON.parse(files.get("variables.json")!)).toMatchObject([{ value: "sweet" }, { value: null }]);
  expect(JSON.parse(files.get("sessions.json")!)).toHaveLength(1);
  expect(files.get(`tasks/${id}/task.json`)).toContain("Ann's prompt.");
  // The cancel of the operator came after what she has read.
  expect(JSON.parse(files.get(`tasks/${id}/task.json`)!)).toMatchObject({ readSeq: seq, notableSeq: seq + 1 });
  expect(files.get(`tasks/${id}/events-1.jsonl`)).toContain("task.submitted");
  expect(files.get(`tasks/${id}/messages-1.jsonl`)).toContain("Said by the agent.");
  expect(files.get(`tasks/${id}/tool-calls-1.jsonl`)).toContain('"ls"');
  expect(files.get(`attachments/${file.body.id}/a.txt`)).toBe("what was attached");
  expect(files.get("audit/actor-1.jsonl")).toContain("createToken");
});

it("[R10] an admin exports a person; an operator, a token and a stranger do not", async () => {
  const eve = await api.person("eve@example.com");
  const path = `/v1/users/${eve.userId}/export`;
  const admin = await api.person("root@example.com", "admin");
  const files = await unpack(await get(path, admin.accessToken));
  expect(files.get("profile.json")).toContain("eve@example.com");
  expect((await api.audit.rows({ action: "exportUser", limit: 1 }))[0]).toMatchObject({
    actor: admin.userId,
    target: eve.userId,
  });
  for (const who of [eve, await api.person("oscar@example.com", "operator")])
    expect((await get(path, who.accessToken)).status).toBe(403);
  const { body } = await api.call("POST", "/v1/tokens", { token: eve.accessToken, body: { name: "ci" } });
  expect((await get("/v1/me/export", body.token)).status).toBe(403);
});

it("[R10] one at a time per person; one that is left is over", async () => {
  const fay = await api.person("fay@example.com");
  // Does not compress, and is more than what connections hold.
  const noise = Buffer.alloc(1_000_000, 0).map((_, i) => (i * 7_919 + ((i * i) >> 3)) & 255);
  const ids: string[] = [];
  for (let n = 0; n < 4; n++) {
    const raw = Buffer.from(noise.map((byte) => byte ^ (n * 37)));
    ids.push((await api.call("POST", `/v1/attachments?name=${n}.bin`, { token: fay.accessToken, raw })).body.id);
  }
  await submit(fay.accessToken, "Look.", ids);
  const first = new AbortController();
  const response = await get("/v1/me/export", fay.accessToken, first.signal);
  expect(response.status).toBe(200);
  const second = await get("/v1/me/export", fay.accessToken);
  expect([second.status, ((await second.json()) as { code: string }).code]).toEqual([429, "rate_limited"]);
  first.abort();
  await expect.poll(async () => (await get("/v1/me/export", fay.accessToken)).status).toBe(200);
});
