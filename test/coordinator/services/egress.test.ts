/** The egress service: the allow-lists, their changes, and notices of refused endpoints. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createEgressService } from "../../../src/coordinator/services/egress.ts";
import { DEFAULT_HOSTS } from "../../../src/core/values/egress-policy.ts";
import type { Egress } from "../../../src/core/task.ts";
import { quiet } from "../../worker/rig.ts";
import { openHarness, REPO, type Harness } from "../../support/coordinator/harness.ts";

let harness: Harness;
beforeEach(async () => {
  harness = await openHarness({ settings: { egress: ["none", "allowlist"] } });
});
afterEach(() => harness.close());

const notices = async (id: string): Promise<string[]> =>
  (await harness.store.events(id, 0, 1_000)).items
    .filter(({ type }) => type === "notice")
    .map(({ data }) => String(data["text"]));

describe("[S5] the lists", () => {
  it("a task with `open` gets the next narrower policy once the operator no longer offers it", async () => {
    await harness.close();
    harness = await openHarness({ settings: { egress: ["none", "allowlist", "open"] } });
    const { id } = await harness.submit({ egress: "open" });
    await harness.until(id, "provisioning");
    const variables = { redactNow: (_id: string, text: string) => text };
    const parts = { repos: harness.repos, sandbox: harness.sandbox, log: quiet, trustedHosts: [], variables };
    const policyWhere = async (...egress: Egress[]): Promise<string> => {
      const { taskLog } = harness.coordinator;
      return (await createEgressService({ ...parts, taskLog, store: harness.store, egress }).policy(id, 1)).egress;
    };
    expect(await policyWhere("none", "allowlist", "open")).toBe("open");
    expect(await policyWhere("none", "allowlist")).toBe("allowlist");
    expect(await policyWhere("none")).toBe("none");
  });

  it("a change applies to the next connection of a running task, and a repository's list adds to the installation's", async () => {
    const { egress } = harness.coordinator;
    const task = await harness.submit({ egress: "allowlist" });
    await harness.until(task.id, "provisioning");
    const hosts = async (): Promise<ReadonlySet<string>> => (await egress.policy(task.id, 1)).hosts;
    expect([...(await hosts())].toSorted()).toEqual(DEFAULT_HOSTS.toSorted());
    // The proxy is notified of each change after it is stored.
    const heard: Promise<boolean>[] = [];
    egress.onChange(() => void heard.push(hosts().then((now) => now.has("one.example:443"))));
    await egress.change(null, { allow: ["One.example:443"], remove: ["pypi.org:443"] });
    await egress.change(`${REPO}/`, { allow: ["two.example:443"] });
    await egress.change("https://git.example.com/team/other", { allow: ["three.example:443"] });
    expect((await hosts()).has("one.example:443") && (await hosts()).has("two.example:443")).toBe(true);
    expect((await hosts()).has("pypi.org:443") || (await hosts()).has("three.example:443")).toBe(false);
    expect(await Promise.all(heard)).toEqual([true, true, true]);
    expect(await egress.change(null, { reset: true })).toEqual({
      repo: null,
      hosts: DEFAULT_HOSTS.toSorted(),
      shipped: true,
    });
  });

  it("an invalid change changes nothing, and concurrent changes are all applied", async () => {
    const { egress } = harness.coordinator;
    await expect(egress.change(null, { allow: ["good.example:443", "bad"] })).rejects.toMatchObject({
      code: "invalid_request",
    });
    await expect(egress.change("not a repository", { allow: ["a:1"] })).rejects.toMatchObject({
      code: "invalid_repository",
    });
    expect((await egress.list(null)).shipped).toBe(true);
    await Promise.all(Array.from({ length: 10 }, (_, i) => egress.change(null, { allow: [`h${i}.example:443`] })));
    expect((await egress.list(null)).hosts).toHaveLength(DEFAULT_HOSTS.length + 10);
  });

  it("a refused endpoint causes one notice per attempt, and the number of notices is limited", async () => {
    const { egress } = harness.coordinator;
    const task = await harness.submit({ egress: "allowlist" });
    await harness.until(task.id, "provisioning");
    for (let i = 0; i < 200; i += 1) {
      egress.reportRefusal(task.id, 1, "evil.example:443", "Why.");
      egress.reportRefusal(task.id, 1, `h${i}.example:443`, "Why.");
    }
    await harness.coordinator.taskLog.idle();
    const texts = await notices(task.id);
    expect(texts.filter((text) => text.includes("evil.example"))).toHaveLength(1);
    expect(texts).toHaveLength(21);
    expect(texts.at(-1)).toMatch(/not listed one by one/);
  });

  it("[S3] an attempt that is over has no policy", async () => {
    const task = await harness.submit();
    await harness.until(task.id, "provisioning");
    await expect(harness.coordinator.egress.policy(task.id, 2)).rejects.toMatchObject({ code: "stale_attempt" });
    await expect(harness.coordinator.egress.policy("task_unknown", 1)).rejects.toMatchObject({ code: "stale_attempt" });
  });
});

describe("[S5] the setup", () => {
  async function prepared(setup: string, request: { egress?: Egress } = {}): Promise<string> {
    harness.repos.write(REPO, ".slipway.yml", setup);
    const { id } = await harness.submit(request);
    await harness.until(id, "provisioning");
    await harness.untilWorker(id);
    await harness.coordinator.workerApi.spec(id, 1, new AbortController().signal);
    return id;
  }
  const ready = async (id: string): Promise<void> => {
    await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["ready", {}]);
    await harness.until(id, "running");
  };

  it("has the lists until its end is recorded; then its policy ends, and the agent has the task's", async () => {
    const id = await prepared("setup: [npm ci]");
    const { egress, taskLog } = harness.coordinator;
    const during = await egress.policy(id, 1);
    expect(during).toMatchObject({ egress: "allowlist", isSetup: true, hosts: new Set(DEFAULT_HOSTS) });
    expect(during.ends?.aborted).toBe(false);
    await ready(id);
    expect(during.ends?.aborted).toBe(true);
    expect(await egress.policy(id, 1)).toEqual({ egress: "none", hosts: new Set() });
    await taskLog.idle();
    expect(await notices(id)).toContainEqual(expect.stringMatching(/setup is over.*egress none/));
  });

  it("has the task's policy where that one is wider, and less where the repository says so", async () => {
    await harness.close();
    harness = await openHarness({ settings: { egress: ["none", "allowlist", "open"] } });
    const policyOf = async (id: string): Promise<Egress> => (await harness.coordinator.egress.policy(id, 1)).egress;
    expect(await policyOf(await prepared("setup: [npm ci]", { egress: "open" }))).toBe("open");
    expect(await policyOf(await prepared("setup: [npm ci]\negress: { setup: none }", { egress: "open" }))).toBe("none");
    expect(await policyOf(await prepared("setup: [npm ci]\negress: { setup: open }"))).toBe("allowlist");
  });

  it("has nothing of its own where the repository has none, or the operator offers no more than none", async () => {
    const id = await prepared("verify: [npm test]");
    expect(await harness.coordinator.egress.policy(id, 1)).toEqual({ egress: "none", hosts: new Set() });
    await harness.close();
    harness = await openHarness({ settings: { egress: ["none"] } });
    const other = await prepared("setup: [npm ci]");
    expect((await harness.coordinator.egress.policy(other, 1)).egress).toBe("none");
  });

  it("is told to the worker, which shows it in the step", async () => {
    const id = await prepared("setup: [npm ci]");
    const spec = await harness.coordinator.workerApi.spec(id, 1, new AbortController().signal);
    expect(spec).toMatchObject({ egress: "none", setupEgress: "allowlist" });
  });
});
