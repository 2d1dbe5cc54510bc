/** Samples of the unsafe calls that are not about people, for idempotency.test.ts. */
import { WORK_REF } from "../../src/core/ports/repositories.ts";
import { makeReceipt } from "../../src/notifications/payload.ts";
import { LOCAL_TOKEN, REPO, type ApiServer } from "./api-server.ts";

/** What a call is sent with, and what it leaves behind. */
export interface Sample {
  /** The path with its ids; `{id}` is replaced. */
  readonly path?: string;
  readonly token?: string | null;
  readonly headers?: Record<string, string>;
  readonly on?: ApiServer;
  /** A string is sent as it is. */
  readonly body?: object | string;
  /** A valid body that is not the same; absent when the call has no body. */
  readonly other?: object | string;
  /** What the call leaves behind; it must be 1 after both calls. */
  readonly effects?: () => Promise<number>;
}

/** By `method path` of the document; each makes what its call needs. */
export type Samples = Record<string, () => Promise<Sample>>;

/** Calls as the operator of the machine. */
export function localCalls(api: ApiServer) {
  const call = (method: string, path: string, body?: object) =>
    api.call(method, path, { token: LOCAL_TOKEN, ...(body === undefined ? {} : { body }) });
  const list = async (path: string): Promise<Record<string, unknown>[]> => (await call("GET", path)).body.items;
  return { call, list };
}

const PUSH_KEYS = { p256dh: Buffer.alloc(65, 4).toString("base64url"), auth: Buffer.alloc(16).toString("base64url") };

export function taskSamples(api: ApiServer): Samples {
  const { call, list } = localCalls(api);
  const events = async (id: string, type: string): Promise<Record<string, unknown>[]> =>
    (await list(`/v1/tasks/${id}/events?limit=1000`)).filter((event) => event["type"] === type);
  let made = 0;

  async function device(): Promise<string> {
    const endpoint = `https://push.example.com/made-${++made}`;
    return (await call("POST", "/v1/push/devices", { endpoint, keys: PUSH_KEYS, label: "Phone", kinds: [] })).body.id;
  }

  /** A topic, or a webhook, whose secret the repeated call gives again. */
  function added(via: string): Sample {
    const body = { url: `https://${via}.example.com/topic`, label: `Once, ${via}`, kinds: ["done"] };
    const effects = async (): Promise<number> => {
      const { devices } = (await call("GET", "/v1/push")).body;
      return devices.filter(({ label }: { label: string }) => label === body.label).length;
    };
    return { body, other: { ...body, kinds: [] }, effects };
  }

  async function running(): Promise<string> {
    const { id } = (await call("POST", "/v1/tasks", { repo: REPO, prompt: "Do it." })).body;
    await api.harness.untilWorker(id);
    await api.harness.fakeWorkers.send(api.harness.coordinator.workerApi, id, ["ready", {}]);
    await api.harness.until(id, "running.working");
    return id;
  }
  const work = (
    id: string,
    ...given: Parameters<typeof api.harness.fakeWorkers.send> extends [unknown, unknown, ...infer R] ? R : never
  ) => api.harness.fakeWorkers.send(api.harness.coordinator.workerApi, id, ...given);

  async function done(): Promise<string> {
    const id = await running();
    const sha = await api.harness.repos.commit(id, WORK_REF, `work of ${id}`);
    await work(id, ["finished", { sha, title: "", summary: "" }]);
    await api.harness.until(id, "done");
    return id;
  }

  async function children(id: string): Promise<number> {
    const { threadId } = (await call("GET", `/v1/tasks/${id}`)).body;
    return (await list(`/v1/tasks?thread=${threadId}`)).filter((task) => task["parentId"] === id).length;
  }

  return {
    "post /v1/attachments": async () => ({
      path: "/v1/attachments?name=a.txt",
      body: "one",
      other: "two",
      effects: async () => (await api.harness.attachments.usage()).length,
    }),
    "post /v1/repositories/check": async () => ({ body: { repo: REPO } }),
    "post /v1/credentials": async () => {
      const body = { host: "git.example.com", kind: "token", token: "secret-a" };
      return {
        body,
        other: { ...body, token: "secret-b" },
        effects: async () => (await list("/v1/credentials")).length,
      };
    },
    "delete /v1/credentials/{id}": async () => ({
      path: `/v1/credentials/${(await call("POST", "/v1/credentials", { host: "x.example.com", kind: "token", token: "s" })).body.id}`,
    }),
    "delete /v1/tasks/{id}": async () => {
      const id = await done();
      const effects = async (): Promise<number> => Number((await call("GET", `/v1/tasks/${id}`)).status === 404);
      return { path: `/v1/tasks/${id}`, effects };
    },
    "post /v1/tasks/{id}/keep": async () => {
      const id = await done();
      const effects = async (): Promise<number> => Number((await call("GET", `/v1/tasks/${id}/keep`)).body.keep);
      return { path: `/v1/tasks/${id}/keep`, body: { keep: true }, other: { keep: false }, effects };
    },
    "post /v1/tasks/{id}/read": async () => {
      const id = await done();
      const { seq } = (await call("GET", `/v1/tasks/${id}`)).body as { seq: number };
      const effects = async (): Promise<number> => Number((await call("GET", `/v1/tasks/${id}`)).body.readSeq === seq);
      return { path: `/v1/tasks/${id}/read`, body: { seq }, other: { seq: 1 }, effects };
    },
    "post /v1/variables": async () => {
      const body = { repo: REPO, name: "FLAVOUR", value: "sweet and sour" };
      return { body, other: { ...body, value: "bitter and salty" } };
    },
    "delete /v1/variables": async () => {
      await call("POST", "/v1/variables", { repo: REPO, name: "GONE", value: "soon to be gone" });
      return { path: `/v1/variables?repo=${encodeURIComponent(REPO)}&name=GONE` };
    },
    "post /v1/tasks": async () => {
      const body = { repo: REPO, prompt: "Only once, please." };
      const effects = async (): Promise<number> => (await list("/v1/tasks?q=only%20once")).length;
      return { body, other: { ...body, prompt: "Else." }, effects };
    },
    "post /v1/tasks/{id}/cancel": async () => {
      const id = await running();
      const effects = async (): Promise<number> =>
        (await events(id, "task.state")).filter(({ data }) => (data as { reason: string }).reason === "cancel").length;
      return { path: `/v1/tasks/${id}/cancel`, effects };
    },
    "post /v1/tasks/{id}/retry": async () => {
      const id = await done();
      const path = `/v1/tasks/${id}/retry`;
      return { path, body: { from: "start" }, other: { from: "checkpoint" }, effects: () => children(id) };
    },
    "post /v1/tasks/{id}/messages": async () => {
      const id = await running();
      const effects = async (): Promise<number> => (await events(id, "message")).length;
      return { path: `/v1/tasks/${id}/messages`, body: { text: "a" }, other: { text: "b" }, effects };
    },
    "delete /v1/tasks/{id}/messages/{mid}": async () => {
      const id = await running();
      const mid = (await call("POST", `/v1/tasks/${id}/messages`, { text: "No." })).body.id;
      const effects = async (): Promise<number> => (await events(id, "message.status")).length;
      return { path: `/v1/tasks/${id}/messages/${mid}`, effects };
    },
    "post /v1/tasks/{id}/answer": async () => {
      const id = await running();
      await work(id, ["question", { id: "q1", question: "Tabs?", options: null }]);
      const body = { questionId: "q1", text: "yes" };
      const effects = async (): Promise<number> => (await events(id, "answer")).length;
      return { path: `/v1/tasks/${id}/answer`, body, other: { ...body, text: "no" }, effects };
    },
    "post /v1/push/devices": async () => {
      const body = { keys: PUSH_KEYS, label: "Once", kinds: ["done"], endpoint: "https://push.example.com/one" };
      const effects = async (): Promise<number> => {
        const { devices } = (await call("GET", "/v1/push")).body;
        return devices.filter(({ label }: { label: string }) => label === "Once").length;
      };
      return { body, other: { ...body, endpoint: "https://push.example.com/two" }, effects };
    },
    "post /v1/push/ntfy": async () => added("ntfy"),
    "post /v1/push/webhooks": async () => added("webhook"),
    "delete /v1/push/devices/{id}": async () => ({ path: `/v1/push/devices/${await device()}` }),
    "post /v1/push/devices/{id}/test": async () => {
      const id = await device();
      const effects = async (): Promise<number> => {
        const { devices } = (await call("GET", "/v1/push")).body;
        return devices.find((each: { id: string }) => each.id === id).last.length;
      };
      return { path: `/v1/push/devices/${id}/test`, effects };
    },
    "post /v1/push/receipts": async () => {
      const { id } = (await call("POST", `/v1/push/devices/${await device()}/test`)).body;
      const body = { id, receipt: makeReceipt(api.receiptSecrets(), id), rung: "shown" };
      return { token: null, body, other: { ...body, rung: "opened" } };
    },
    "post /v1/push/presence": async () => ({ body: { page: "p", taskId: null }, other: { page: "q", taskId: null } }),
    "post /v1/ops/queue/pause": async () => ({
      token: (await api.person("pause@example.com", "operator")).accessToken,
    }),
    "post /v1/ops/queue/drain": async () => ({
      token: (await api.person("drain@example.com", "operator")).accessToken,
    }),
    "post /v1/ops/queue/resume": async () => ({
      token: (await api.person("resume@example.com", "operator")).accessToken,
    }),
    "post /v1/ops/egress": async () => ({
      body: { allow: ["one.example.com:443"] },
      other: { allow: ["two.example.com:443"] },
      effects: async () => {
        const { hosts } = (await call("GET", "/v1/ops/egress")).body as { hosts: string[] };
        return hosts.filter((host) => host === "one.example.com:443").length;
      },
    }),
    "post /v1/ops/gc": async () => ({ body: { dryRun: true }, other: { dryRun: false } }),
    "post /v1/ops/tasks/{id}/kill": async () => ({ path: `/v1/ops/tasks/${await running()}/kill` }),
  };
}
