import { pack as openPack } from "tar-stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LOCAL_TOKEN, openApiServer, REPO, type ApiServer } from "../api-server.ts";

let api: ApiServer;
let ada: string;
let bob: string;
let id: string;
const NAME = "a1-workspace.tar.gz";

beforeAll(async () => {
  api = await openApiServer();
  ada = (await api.person("ada@example.com")).accessToken;
  bob = (await api.person("bob@example.com")).accessToken;
  id = (await api.call("POST", "/v1/tasks", { token: ada, body: { repo: REPO, prompt: "Do it." } })).body.id;
  const pack = openPack();
  pack.entry({ name: "workspace/page.html" }, "<script>alert(1)</script>");
  pack.finalize();
  const tar = pack as unknown as AsyncIterable<Uint8Array>;
  await api.harness.artifacts.keep({ taskId: id, attempt: 1, tar, maxMs: 10_000 }, new AbortController().signal);
});
afterAll(() => api.close());

const get = (path: string, token = ada) => api.call("GET", path, { token });
const download = async (token: string, method = "GET") =>
  fetch(`http://127.0.0.1:${api.port}/v1/tasks/${id}/artifacts/${NAME}`, {
    method,
    headers: { authorization: `Bearer ${token}` },
  });

describe("artifacts", () => {
  it("the list returns the artifacts", async () => {
    const { status, body } = await get(`/v1/tasks/${id}/artifacts`);
    expect([status, body.next]).toEqual([200, null]);
    expect(body.items).toMatchObject([{ name: NAME, attempt: 1, files: 1, note: null }]);
    expect(body.items[0].at).toMatch(/^20\d\d-.*Z$/);
  });

  it("[S6] the bytes are unchanged, and sent as a download", async () => {
    const answer = await download(ada);
    expect(answer.status).toBe(200);
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      "content-type": "application/gzip",
      "content-disposition": `attachment; filename="${id}-${NAME}"`,
      "x-content-type-options": "nosniff",
      "cache-control": "no-store",
    });
    const bytes = Buffer.from(await answer.arrayBuffer());
    expect(bytes.subarray(0, 2).toString("hex")).toBe("1f8b");
    expect(bytes.length).toBe(Number(answer.headers.get("content-length")));
    const head = await download(ada, "HEAD");
    expect([head.status, head.headers.get("content-length")]).toEqual([200, String(bytes.length)]);
  });

  it("[S2] artifacts of another person and malformed names are 404; an operator may read them", async () => {
    for (const path of [`/v1/tasks/${id}/artifacts`, `/v1/tasks/${id}/artifacts/${NAME}`])
      expect((await get(path, bob)).body).toMatchObject({ status: 404, code: "not_found" });
    expect((await download(LOCAL_TOKEN)).status).toBe(200);
    for (const name of ["a2-workspace.tar.gz", "a1-workspace.json", "..%2fa1-workspace.tar.gz", "x"])
      expect((await get(`/v1/tasks/${id}/artifacts/${name}`)).status).toBe(404);
  });

  it("a reader who goes away leaves the server serving", async () => {
    const stop = new AbortController();
    const answer = await fetch(`http://127.0.0.1:${api.port}/v1/tasks/${id}/artifacts/${NAME}`, {
      headers: { authorization: `Bearer ${ada}` },
      signal: stop.signal,
    });
    stop.abort();
    await expect(answer.arrayBuffer()).rejects.toThrow();
    expect((await get(`/v1/tasks/${id}`)).status).toBe(200);
  });
});
