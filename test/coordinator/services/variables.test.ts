/** Which variables an attempt gets in which phase, and what is removed from what it sends. */
import { afterEach, beforeEach, expect, it } from "vitest";
import { createEgressService } from "../../../src/coordinator/services/egress.ts";
import { AttemptVariables } from "../../../src/coordinator/services/worker/variables.ts";
import { createWorkerService } from "../../../src/coordinator/services/worker.ts";
import { secretForms } from "../../../src/core/lib/json/redaction.ts";
import type { Variable } from "../../../src/core/protocol/repositories.ts";
import { openHarness, quiet, REPO, type Harness } from "../../support/coordinator/harness.ts";

const [SETUP, AGENT] = ["setup-9fK2mQz7Lw", "agent-X4vB8nRt6Y"];
let harness: Harness;
let stored: Variable[];
let variables: AttemptVariables;
let id: string;

beforeEach(async () => {
  harness = await openHarness();
  const variablesFor = async (userId: string, repo: string) => (userId === "user_alice" && repo === REPO ? stored : []);
  stored = [
    { name: "A", value: SETUP, secret: true, phase: "setup" },
    { name: "B", value: AGENT, secret: true, phase: "agent" },
    { name: "STAGE", value: "staging", secret: false, phase: "agent" },
  ];
  variables = new AttemptVariables({ ...harness.coordinator, ...harness, variablesFor });
  ({ id } = await harness.submit());
  await harness.until(id, "provisioning");
  await harness.untilWorker(id);
});
afterEach(() => harness.close());

const names = async (): Promise<string[]> =>
  (await variables.give(await harness.task(id))).variables.map(({ name }) => name);
const ready = async (): Promise<void> => {
  await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["ready", {}]);
  await harness.until(id, "running");
};
const worker = () =>
  createWorkerService({
    ...harness,
    taskLog: harness.coordinator.taskLog,
    variables,
    programs: {},
    models: [],
    abandonMs: 1_000,
    ids: { next: () => "id", random: () => 0 },
    standing: async () => ({ state: "continue" }),
    setupEgress: async () => null,
  });

it("[S11] the setup gets all, and from its recorded end on only what is for the agent is given", async () => {
  expect(await names()).toEqual(["A", "B", "STAGE"]);
  await ready();
  expect(await names()).toEqual(["B", "STAGE"]);
  expect(JSON.stringify(await worker().variables(id, 1))).not.toContain(SETUP);
  await expect(worker().variables(id, 2)).rejects.toMatchObject({ code: "stale_attempt" });
});

it("[S11] nothing is given where nothing isolates the commands, nor to the tasks of others", async () => {
  const deps = { ...harness.coordinator, store: harness.store, variablesFor: async () => stored };
  const open = new AttemptVariables({ ...deps, sandbox: { runsRepositoryCommands: () => false } });
  expect(await open.give(await harness.task(id))).toEqual({ variables: [] });
  const task = await harness.task(id);
  expect(await variables.give({ ...task, userId: "user_bob" })).toEqual({ variables: [] });
  expect(await variables.give({ ...task, spec: { ...task.spec, repo: `${REPO}2` } })).toEqual({ variables: [] });
});

it("[S11] events, transcripts and streams lose the values, also of a secret that was removed meanwhile", async () => {
  await ready();
  const api = worker();
  await api.variables(id, 1);
  stored = [];
  const shown: string[] = [];
  harness.bus.onDelta(({ text }) => void shown.push(text));
  const text = `a ${SETUP} b ${Buffer.from(`x:${AGENT}`).toString("base64")}`;
  const data = { id: "m1", role: "assistant", content: [{ type: "text", text }] };
  const event = { seq: 2, at: new Date(0).toISOString(), type: "message" as const, data };
  const deltas = [text.slice(0, 9), text.slice(9), " end of it, long enough"].map((piece) => ({
    messageId: "m2",
    text: piece,
  }));
  await api.accept(id, { attempt: 1, events: [event], deltas }, 1);
  await api.append(id, { n: 1, attempt: 1, record: { text, key: AGENT } });
  const said = [
    ...(await harness.store.events(id, 0, 100)).items.map((row) => JSON.stringify(row)),
    ...(await harness.store.records(id, 0, 10_000)).map(({ json }) => json),
    shown.join(""),
  ];
  expect(said.filter((one) => one.includes("a [secret] b"))).toHaveLength(3);
  expect(said.join("\n")).not.toMatch(/9fK2mQz7|X4vB8nRt/);
  expect(said.join("\n")).not.toContain(Buffer.from(AGENT).toString("base64").slice(4, -4));
});

it("[S1] the token of the git host, which a worker never gets, is removed when the host repeats it", async () => {
  const token = "host-Token-7Rw2kQx9";
  const { sandbox } = harness;
  const authFor = async () => ({ username: "x-access-token", token });
  variables = new AttemptVariables({ ...harness.coordinator, store: harness.store, sandbox, authFor });
  await ready();
  const basic = Buffer.from(`x-access-token:${token}`).toString("base64");
  const text = `The host answers: Authorization: Basic ${basic}, ${token}.`;
  const data = { id: "m1", role: "assistant", content: [{ type: "text", text }] };
  const event = { seq: 2, at: new Date(0).toISOString(), type: "message" as const, data };
  const shown: string[] = [];
  harness.bus.onDelta(({ text }) => void shown.push(text));
  const deltas = ["It is host-Tok", "en-7Rw2kQx9, and more"].map((text) => ({ messageId: "m2", text }));
  await worker().accept(id, { attempt: 1, events: [event], deltas }, 1);
  const told = (await harness.store.events(id, 0, 100)).items.map((row) => JSON.stringify(row)).join("\n");
  expect(told).toMatch(/The host answers: Authorization: Basic .*\[secret\].*, \[secret\]\./);
  for (const form of secretForms(token)) expect(told).not.toContain(form);
  expect(shown.join("")).toBe("It is [secret], and more");
});

it("[S11] the model gateway learns what to remove, also in a process that gave nothing yet", async () => {
  const redactor = await variables.redactorOf(id);
  expect(redactor?.redact(`${SETUP} ${AGENT} staging`)).toBe("[secret] [secret] staging");
  stored = [];
  expect((await variables.redactorOf(id))?.redact(AGENT)).toBe("[secret]");
  expect(await variables.redactorOf("task_unknown")).toBeNull();
});

it("[S11] a secret in the name of a refused host is not in the notice", async () => {
  await variables.give(await harness.task(id));
  const parts = { repos: harness.repos, sandbox: harness.sandbox, store: harness.store, log: quiet };
  const { taskLog } = harness.coordinator;
  const egress = createEgressService({ ...parts, taskLog, variables, egress: ["none"], trustedHosts: [] });
  egress.reportRefusal(id, 1, `${SETUP.toLowerCase()}.evil.example:443`, "Why.");
  await taskLog.idle();
  const notices = (await harness.store.events(id, 0, 100)).items.filter(({ type }) => type === "notice");
  expect(notices.map(({ data }) => data["text"])).toContainEqual(expect.stringContaining("[secret].evil.example:443"));
});
