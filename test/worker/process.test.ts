/**
 * The complete worker process: killed, restarted, fenced off, resumed, with a coordinator that goes
 * away.
 */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import { Rig } from "./rig.ts";
import { inTurn } from "../support/vitest/full-run.ts";
import { isAnyLeft } from "../support/process/running.ts";

const it = inTurn(3);

let rig: Rig;
beforeEach(async () => {
  rig = await Rig.open();
});
afterEach(async () => await rig.close());

const sleep = async (ms: number): Promise<void> => await new Promise((resolve) => setTimeout(resolve, ms));

it("[W3] a response of 410 stops the worker and its tools at once", async () => {
  const running = await rig.start([{ bash: "sleep 61.5" }]);
  await rig.workerApi.until(() => rig.workerApi.of("tool.started").length === 1);
  rig.workerApi.end();
  expect(await running.exit).toBe(3);
  expect(rig.workerApi.of("checkpoint")).toEqual([]);
  expect(isAnyLeft("sleep 61.5")).toBe(false);
});

it("a wrong token ends the worker with exit code 1", async () => {
  expect(await rig.start([], { SLIPWAY_TOKEN: "att_wrong" }).then(async ({ exit }) => await exit)).toBe(1);
});

it("[W4] the next attempt resumes from the checkpoint: earlier steps are not repeated, and the history shows no trace of it", async () => {
  const script = [
    { bash: "echo once >> log.txt" },
    { commit: "Add the log" },
    { write: { path: "second.txt", content: "2" } },
    { bash: `[ "$SLIPWAY_ATTEMPT" != 1 ] || { sleep 2.1; touch later; }` },
    { bash: `[ "$SLIPWAY_ATTEMPT" != 1 ] || sleep 60` },
    { finish: { title: "The rest", summary: "" } },
  ];
  const first = await rig.start(script);
  await rig.workerApi.until(() => rig.workerApi.of("checkpoint").at(-1)?.data["cursor"] === "4");
  first.child.kill("SIGKILL");
  expect([await first.exit, rig.workerApi.of("failed")]).toEqual([null, []]);
  rig.workerApi.next();
  expect(await rig.run(script)).toBe(0);
  const sha = rig.finalSha();
  expect(await rig.show(sha, "log.txt")).toBe("once\n");
  expect(await rig.files(sha)).toEqual([".gitignore", "a.txt", "later", "log.txt", "second.txt"]);
  expect(await rig.subjects(sha)).toEqual(["The rest", "Add the log"]);
});

it("[W4] the work is saved while a tool runs, including changes that the previous step left unsaved", async () => {
  const script = [
    { write: { path: "first.txt", content: "1" } },
    { write: { path: "second.txt", content: "2" } },
    { bash: "echo third > third.txt; sleep 60" },
  ];
  const running = await rig.start(script);
  await rig.workerApi.until(() => rig.workerApi.of("checkpoint").some((event) => event.data["files"] === 3));
  running.child.kill("SIGKILL");
  await running.exit;
  const saved = String(rig.workerApi.of("checkpoint").at(-1)?.data["sha"]);
  expect(await rig.files(saved)).toEqual([".gitignore", "a.txt", "first.txt", "second.txt", "third.txt"]);
});

it("[W3] without a coordinator the worker gives up after `abandonMs`, and its tools end", async () => {
  rig.workerApi.overrides = { abandonMs: 1_000 };
  const running = await rig.start([{ bash: "echo $$ > pid; sleep 300" }]);
  await rig.workerApi.until(() => rig.workerApi.of("tool.started").length > 0);
  await rig.broker.close();
  expect(await running.exit).toBe(1);
});

it("killed and restarted in the same directories, the worker finishes the same attempt", async () => {
  const script = (wait: number) => [
    { write: { path: "b.txt", content: "b" } },
    { wait },
    { bash: "cat b.txt" },
    { finish: { title: "b", summary: "" } },
  ];
  const first = await rig.start(script(600_000));
  // The write counts as done when it is saved.
  await rig.workerApi.until(() => rig.workerApi.of("checkpoint").length === 1);
  first.child.kill("SIGKILL");
  await first.exit;
  expect(await rig.run(script(1))).toBe(0);
  expect(rig.workerApi.of("ready")).toHaveLength(1);
  expect(rig.workerApi.of("tool.finished").filter((event) => event.data["name"] === "write")).toHaveLength(1);
  expect(rig.workerApi.events.map((event) => event.seq)).toEqual(rig.workerApi.events.map((_, index) => index + 1));
  expect(await rig.files(rig.finalSha())).toContain("b.txt");
});

it("an attempt succeeds although the coordinator is away while it works and pushes", async () => {
  const gate = join(rig.dir, "gate");
  const running = await rig.start([
    { bash: `until [ -e ${gate} ]; do sleep 0.05; done; echo x > x` },
    { bash: "echo y > y" },
    { finish: { title: "xy", summary: "" } },
  ]);
  await rig.workerApi.until(() => rig.workerApi.of("tool.started").length === 1);
  await rig.broker.close();
  writeFileSync(gate, "");
  // The work ends while the coordinator is away; the push is tried in the time after it.
  await expect.poll(() => existsSync(join(rig.workspace, "y"))).toBe(true);
  await sleep(1_000);
  expect(running.child.exitCode).toBe(null);
  rig.newBroker();
  await rig.broker.open(rig.workerApi.taskId, 1);
  expect(await running.exit).toBe(0);
  expect(await rig.files(rig.finalSha())).toEqual([".gitignore", "a.txt", "x", "y"]);
});

it("SIGTERM while the coordinator is away ends the worker in time, with the exit code for a lost report", async () => {
  const running = await rig.start([{ bash: "echo x > x" }, { wait: 60_000 }]);
  await rig.workerApi.until(() => rig.workerApi.of("tool.finished").length === 1);
  await rig.broker.close();
  const begun = Date.now();
  running.child.kill("SIGTERM");
  expect(await running.exit).toBe(1);
  expect(Date.now() - begun).toBeLessThan(30_000);
});

it("an agent that destroys its repository fails with evidence", async () => {
  expect(await rig.run([{ bash: "rm -rf .git; echo x > x" }, { finish: { title: "t", summary: "" } }])).toBe(0);
  expect(rig.workerApi.of("failed")[0]?.data).toMatchObject({ code: "agent_error" });
  expect(String(rig.workerApi.of("failed")[0]?.data["evidence"])).toContain("not a git repository");
});

it("a failing clone is reported as `repo_unreachable`", async () => {
  rig.workerApi.overrides = { baseSha: "0123456789012345678901234567890123456789" };
  expect(await rig.run([])).toBe(0);
  expect(rig.workerApi.of("failed")[0]?.data).toMatchObject({ code: "repo_unreachable" });
  expect(existsSync(join(rig.workspace, "a.txt"))).toBe(false);
});

it("a missing environment variable ends the worker with its name on standard error", async () => {
  const running = await rig.start([], { SLIPWAY_SOCKET: "" });
  expect(await running.exit).toBe(1);
  expect(running.stderr()).toContain("SLIPWAY_SOCKET");
});
