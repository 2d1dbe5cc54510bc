/** The scripted agent's steps, each through the real worker process, broker, tools and git. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import { Rig } from "../rig.ts";
import { git } from "../../support/repository.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(4);

let rig: Rig;
beforeEach(async () => {
  rig = await Rig.open();
});
afterEach(async () => await rig.close());

const types = (): string[] => rig.workerApi.events.map((event) => event.type);

it("without a script the agent writes a file, reports it and commits it", async () => {
  expect(await rig.run(null)).toBe(0);
  const sha = rig.finalSha();
  expect(await rig.show(sha, "SLIPWAY.md")).toContain("Do the work");
  expect(rig.workerApi.messageTexts().length).toBeGreaterThan(0);
  expect(rig.workerApi.tool("bash")).toMatchObject({ exitCode: 0 });
  expect(await git(rig.repo, "rev-parse", "refs/slipway/work")).toBe(sha);
  const steps = rig.workerApi
    .of("task.step")
    .map((event) => `${String(event.data["name"])} ${String(event.data["status"])}`);
  expect(steps).toEqual([
    "connect started",
    "connect ended",
    "clone started",
    "clone ended",
    "setup started",
    "setup ended",
  ]);
  expect(types().indexOf("ready")).toBe(6);
  expect(types().at(-1)).toBe("finished");
});

it("`say` emits its text as deltas, then as a message", async () => {
  const text = "All is well. ".repeat(40);
  // Deltas of one that ends before they are sent are left out.
  const texts = Array.from({ length: 20 }, () => text);
  expect(await rig.run(texts.map((say) => ({ say })))).toBe(0);
  expect(rig.workerApi.messageTexts()).toEqual(texts);
  const { deltas } = rig.workerApi;
  for (const { data } of rig.workerApi.of("message")) {
    const streamed = deltas.filter(({ messageId }) => messageId === data["id"]).map((delta) => delta.text);
    expect(text.startsWith(streamed.join(""))).toBe(true);
  }
  expect(deltas.length).toBeGreaterThan(0);
});

it("bash, read, write and edit run the real tools", async () => {
  const code = await rig.run([
    { bash: "mkdir -p sub && cd sub && echo hello; exit 3" },
    { bash: "pwd" },
    { write: { path: "deep/er/new.txt", content: "x = 1\n" } },
    { read: "deep/er/new.txt" },
    { edit: { path: "a.txt", old: "two", new: "2" } },
    { edit: { path: "a.txt", old: "nowhere", new: "2" } },
    { finish: { title: "Change things", summary: "They are changed." } },
  ]);
  expect(code).toBe(0);
  expect(rig.workerApi.tool("bash")).toMatchObject({ output: "hello\n", exitCode: 3, truncated: false });
  expect(rig.workerApi.tool("bash", 1).output).toBe(`${rig.workspace}/sub\n`);
  expect(rig.workerApi.tool("read").output).toContain("1\tx = 1");
  expect(rig.workerApi.tool("edit")).toMatchObject({ exitCode: 0 });
  expect(rig.workerApi.tool("edit", 1)).toMatchObject({ exitCode: 1 });
  expect(await rig.show(rig.finalSha(), "a.txt")).toBe("one\n2\nthree\n");
  expect(await rig.subjects(rig.finalSha())).toEqual(["Change things"]);
  expect(rig.workerApi.of("finished")[0]?.data).toMatchObject({ title: "Change things", summary: "They are changed." });
  expect(await git(rig.repo, "log", "-1", "--format=%an <%ae>", rig.finalSha())).toBe(
    "Slipway <agent@slipway.invalid>",
  );
  expect(types().filter((type) => type === "tool.started")).toHaveLength(6);
});

it("`todo` and `usage` emit events", async () => {
  await rig.run([{ todo: [{ text: "a", status: "pending" }] }, { usage: { inputTokens: 5, usd: 0.25 } }, { wait: 10 }]);
  expect(rig.workerApi.of("todo")[0]?.data).toEqual({ items: [{ text: "a", status: "pending" }] });
  expect(rig.workerApi.of("usage")[0]?.data).toMatchObject({ inputTokens: 5, outputTokens: 0, usd: 0.25 });
});

it("a question waits for its answer; the answer of an earlier attempt is used at once", async () => {
  const script = [
    { bash: "echo 1 >> log" },
    { ask: { question: "Which?", options: ["a", "b"] } },
    { finish: { title: "t", summary: "s" } },
  ];
  const running = await rig.start(script);
  await rig.workerApi.until(() => rig.workerApi.of("question").length === 1);
  const id = String(rig.workerApi.of("question")[0]?.data["id"]);
  expect(id).toBe(`q_${rig.workerApi.taskId}_1`);
  expect(rig.workerApi.of("checkpoint").at(-1)?.data).toMatchObject({ cursor: "1", files: 1 });
  running.child.kill("SIGTERM");
  expect(await running.exit).toBe(0);

  rig.workerApi.next();
  rig.workerApi.answers[id] = "b";
  expect(await rig.run(script)).toBe(0);
  expect(rig.workerApi.of("question")).toHaveLength(1);
  expect(rig.workerApi.messageTexts()).toContain("The answer is: b");
  expect(await rig.show(rig.finalSha(), "log")).toBe("1\n");
});

it("an answer that arrives during the wait is used", async () => {
  const running = await rig.start([{ ask: { question: "Go on?" } }]);
  await rig.workerApi.until(() => rig.workerApi.of("question").length === 1);
  rig.workerApi.command({ type: "answer", questionId: "q_other", text: "no" });
  rig.workerApi.command({ type: "answer", questionId: `q_${rig.workerApi.taskId}_0`, text: "yes" });
  expect(await running.exit).toBe(0);
  expect(rig.workerApi.messageTexts()).toEqual(["The answer is: yes"]);
});

it("the agent's own commits are kept; all other changes become one more commit", async () => {
  await rig.run([
    { write: { path: "b.txt", content: "b" } },
    { commit: "Add b" },
    { write: { path: "c.txt", content: "c" } },
    { finish: { title: "Add c", summary: "" } },
  ]);
  expect(await rig.subjects(rig.finalSha())).toEqual(["Add c", "Add b"]);
});

it("without changes the final commit is the base, and no branch is pushed", async () => {
  expect(await rig.run([{ bash: "touch x && rm x; mkdir -p ignored && touch ignored/y" }])).toBe(0);
  expect(rig.finalSha()).toBe(rig.workerApi.baseSha);
  expect(await git(rig.repo, "for-each-ref", "refs/heads/slipway")).toBe("");
});

it("`fail` saves the work and reports the failure", async () => {
  expect(
    await rig.run([{ write: { path: "b.txt", content: "b" } }, { fail: { code: "refused", message: "No." } }]),
  ).toBe(0);
  expect(rig.workerApi.of("failed")[0]?.data).toEqual({ code: "refused", message: "No.", evidence: null });
  const saved = rig.workerApi.of("checkpoint").at(-1)?.data;
  expect(saved).toMatchObject({ cursor: "1" });
  expect(await rig.show(String(saved?.["sha"]), "b.txt")).toBe("b");
});

it("`exit` saves the work and ends the process at once, without a report", async () => {
  expect(
    await rig.run([
      { write: { path: "b.txt", content: "b" } },
      { exit: 7 },
      { write: { path: "c.txt", content: "c" } },
    ]),
  ).toBe(7);
  expect(types()).not.toContain("failed");
  expect(types()).not.toContain("finished");
  expect(await rig.show(String(rig.workerApi.of("checkpoint").at(-1)?.data["sha"]), "b.txt")).toBe("b");
});

it("`hang` stops all heartbeats, and still ends when it is cancelled", async () => {
  const running = await rig.start([{ write: { path: "b.txt", content: "b" } }, { hang: true }]);
  await rig.workerApi.until(() => types().includes("tool.finished"));
  await rig.workerApi.until(() => Date.now() - (rig.workerApi.requestTimes.at(-1) ?? 0) > 1_000);
  running.child.kill("SIGTERM");
  expect(await running.exit).toBe(0);
  expect(rig.workerApi.of("checkpoint").length).toBe(1);
});

it("a message is delivered and reported at the next step; a withdrawn one is not delivered", async () => {
  rig.workerApi.command({ type: "message", messageId: "msg_1", text: "Use tabs", mode: "steer" });
  rig.workerApi.command({ type: "message", messageId: "msg_2", text: "Never mind", mode: "steer" });
  rig.workerApi.command({ type: "withdraw", messageId: "msg_2" });
  rig.workerApi.command({ type: "message", messageId: "msg_3", text: "And then the docs", mode: "follow_up" });
  await rig.run([{ wait: 300 }, { say: "first" }, { say: "second" }]);
  expect(rig.workerApi.of("message.status").map((event) => event.data)).toEqual([
    { id: "msg_1", status: "delivered" },
    { id: "msg_3", status: "delivered" },
  ]);
  expect(rig.workerApi.messageTexts()).toEqual([
    'Message received: "Use tabs"',
    "first",
    "second",
    'Message received: "And then the docs"',
  ]);
  const delivered = rig.workerApi.events.findIndex((event) => event.type === "message.status");
  expect(rig.workerApi.events.findIndex((event) => event.type === "message")).toBeGreaterThan(delivered);
});

it("a message that is withdrawn during its delivery is dropped", async () => {
  rig.workerApi.command({ type: "message", messageId: "msg_1", text: "Use tabs", mode: "steer" });
  const accept = rig.workerApi.accept.bind(rig.workerApi);
  rig.workerApi.accept = async (taskId, batch) => {
    if (batch.events.some((event) => event.type === "message.status"))
      rig.workerApi.command({ type: "withdraw", messageId: "msg_1" });
    return await accept(taskId, batch);
  };
  await rig.run([{ wait: 300 }, { say: "first" }]);
  expect(rig.workerApi.of("message.status")).toHaveLength(1);
  expect(rig.workerApi.messageTexts()).toEqual(["first"]);
});

it("verification runs in the root of the checkout, and its failures are part of the summary", async () => {
  rig.workerApi.overrides = { verify: ["test -f a.txt", "echo broken; exit 4"] };
  expect(await rig.run([{ bash: "mkdir sub; cd sub; touch f" }, { finish: { title: "t", summary: "Done." } }])).toBe(0);
  expect(rig.workerApi.of("verify").map((event) => event.data)).toMatchObject([
    { command: "test -f a.txt", exitCode: 0 },
    { command: "echo broken; exit 4", exitCode: 4, tail: "broken\n" },
  ]);
  expect(rig.workerApi.of("notice")[0]?.data).toMatchObject({ code: "verify_failed" });
  const summary = String(rig.workerApi.of("finished")[0]?.data["summary"]);
  expect(summary).toMatch(/^Done\.[\s\S]*passed[\s\S]*failed \(exit code 4\)/);
});

it("the repository's setup runs before the worker is ready; each command has its log and its time limit", async () => {
  rig.workerApi.overrides = {
    setup: [
      { command: "mkdir -p sub; cd sub; echo making; touch ../made", timeoutMs: 60_000 },
      { command: "test -f made; sleep 30", timeoutMs: 500 },
      { command: "touch never", timeoutMs: 60_000 },
    ],
  };
  expect(await rig.run([{ bash: "ls made never" }])).toBe(0);
  const tools = rig.workerApi.of("tool.finished").filter((event) => event.data["name"] === "setup");
  expect(tools.map((event) => event.data)).toMatchObject([{ exitCode: 0, output: "making\n" }, { exitCode: null }]);
  expect(rig.workerApi.of("notice").map((event) => event.data)).toMatchObject([{ code: "setup_failed" }]);
  expect(rig.workerApi.of("notice")[0]?.data["text"]).toMatch(
    /sleep 30" was stopped before its end. The 1 after it did not run/,
  );
  expect(rig.workerApi.tool("bash").output).toMatch(/'never'[\s\S]*made/);
  expect(types().indexOf("notice")).toBeLessThan(types().indexOf("ready"));
});

it("an unknown agent is reported as an agent error", async () => {
  rig.workerApi.overrides = { agent: "constructor" };
  expect(await rig.run([])).toBe(0);
  expect(rig.workerApi.of("failed")[0]?.data).toMatchObject({ code: "agent_error" });
});

it("any text is accepted: escapes, NUL, lone surrogates, 5 MB of output", async () => {
  rig.workerApi.command({ type: "answer", questionId: `q_${rig.workerApi.taskId}_4`, text: "ok" });
  const code = await rig.run([
    { say: "a\u0000b\u001b[31mred\u001b[0m \ud800 end" },
    { bash: "printf '\\033]0;title\\007\\000\\377\\n'; head -c 5000000 /dev/zero | tr '\\0' x" },
    { todo: [{ text: "long ".repeat(1_000), status: "pending" }] },
    { write: { path: "big.txt", content: "é".repeat(300_000) } },
    { ask: { question: "q".repeat(9_000), options: ["o".repeat(900)] } },
    { finish: { title: "t".repeat(900), summary: "s".repeat(100_000) } },
  ]);
  expect(code).toBe(0);
  expect(rig.workerApi.messageTexts()[0]).toBe("abred \ufffd end");
  expect(rig.workerApi.tool("bash")).toMatchObject({ truncated: true });
  expect(rig.workerApi.tool("bash").output.length).toBeLessThan(17_000);
  expect(rig.workerApi.of("notice").filter((event) => event.data["code"] === "event_refused")).toEqual([]);
  expect((await rig.show(rig.finalSha(), "big.txt")).length).toBe(300_000);
});

it("the tools' environment contains neither the attempt's token nor the broker's address", async () => {
  await rig.run([{ bash: "env" }]);
  const { output } = rig.workerApi.tool("bash");
  expect(output).toContain("CI=1");
  expect(output).not.toContain("att_");
  expect(output).not.toContain("b.sock");
  expect(output).not.toMatch(/^SLIPWAY_(TOKEN|SOCKET)/m);
});

it("at the deadline the work is saved and the failure is reported", async () => {
  rig.workerApi.overrides = { wallMs: 30_000 };
  expect(await rig.run([{ write: { path: "b.txt", content: "b" } }, { bash: "sleep 60" }])).toBe(0);
  expect(rig.workerApi.of("failed")[0]?.data).toMatchObject({ code: "deadline_exceeded" });
  expect(rig.workerApi.tool("bash")).toMatchObject({ exitCode: null });
  expect(await rig.show(String(rig.workerApi.of("checkpoint").at(-1)?.data["sha"]), "b.txt")).toBe("b");
});

it("waiting for an answer does not count as working time", async () => {
  const wallMs = 30_000;
  rig.workerApi.overrides = { wallMs };
  const running = await rig.start([{ ask: { question: "?" } }]);
  await rig.workerApi.until(() => rig.workerApi.of("question").length === 1);
  await new Promise((resolve) => setTimeout(resolve, wallMs + 100));
  rig.workerApi.command({ type: "answer", questionId: `q_${rig.workerApi.taskId}_0`, text: "yes" });
  expect(await running.exit).toBe(0);
  expect(types()).toContain("finished");
});

it("[W4] cancel stops the tools, keeps the work and ends with 0", async () => {
  const running = await rig.start([{ bash: "trap '' TERM; echo half > half.txt; sleep 60 & sleep 60" }]);
  const file = join(rig.workspace, "half.txt");
  await rig.workerApi.until(() => existsSync(file) && readFileSync(file, "utf8") === "half\n");
  const begun = Date.now();
  const graceMs = 90_000;
  rig.workerApi.command({ type: "cancel", graceMs });
  expect(await running.exit).toBe(0);
  expect(Date.now() - begun).toBeLessThan(graceMs);
  expect(await rig.show(String(rig.workerApi.of("checkpoint").at(-1)?.data["sha"]), "half.txt")).toBe("half\n");
  expect(types()).not.toContain("failed");
});

it("only the worker's user can read the journal", async () => {
  await rig.run([{ say: "x" }]);
  expect(statSync(join(rig.state, "journal.jsonl")).mode & 0o777).toBe(0o600);
});
