/** The projections of the log: messages, tool calls and attempts (rule M1). */
import { expect, it } from "vitest";
import type { Store } from "../../src/core/ports/store.ts";
import { sandboxName } from "../../src/core/task.ts";
import { cancel, claim, create, fail, move, notice, ready, stopped, T0, type Move } from "./tasks.ts";

const message = (id: string, role: "user" | "assistant", text: string, more: object = {}): Move => ({
  type: "message",
  data: { id, role, content: [{ type: "text", text }], ...more },
});

export function projectionContract(get: () => Store): void {
  it("messages are stored with their status", async () => {
    const task = await move(
      get(),
      await create(get()),
      claim,
      ready,
      message("m1", "user", "stop", { mode: "steer", status: "queued" }),
    );
    expect(await get().message(task.id, "m1")).toEqual({
      id: "m1",
      taskId: task.id,
      seq: 4,
      at: task.updatedAt,
      role: "user",
      content: [{ type: "text", text: "stop" }],
      mode: "steer",
      status: "queued",
    });
    const shown = await move(get(), task, message("a1", "assistant", "ok"), {
      type: "message.status",
      data: { id: "m1", status: "delivered" },
    });
    const messages = (await get().messages(shown.id, 0, 100)).items;
    expect(messages.map(({ id, role, mode, status }) => [id, role, mode, status])).toEqual([
      ["m1", "user", "steer", "delivered"],
      ["a1", "assistant", null, null],
    ]);
    expect(await get().message(shown.id, "none")).toBeNull();
  });

  it("[R5] a second message of a user with a taken id is refused whole", async () => {
    const sent = message("m1", "user", "once", { mode: "steer", status: "queued" });
    const task = await move(get(), await create(get()), claim, ready, message("m1", "assistant", "same id"), sent);
    await expect(move(get(), task, sent)).rejects.toThrow();
    expect(await get().task(task.id)).toEqual(task);
    expect((await get().messages(task.id, 0, 100)).items).toHaveLength(2);
  });

  it("[R6] queued messages are listed in order until their status changes", async () => {
    const send = (id: string): Move => message(id, "user", id, { mode: "steer", status: "queued" });
    const to = (id: string, status: string): Move => ({ type: "message.status", data: { id, status } });
    const task = await move(get(), await create(get()), send("m3"), send("m1"), claim, ready, send("m2"));
    const queued = async (): Promise<string[]> => (await get().queuedMessages(task.id)).map(({ id }) => id);
    expect(await queued()).toEqual(["m3", "m1", "m2"]);
    const after = await move(get(), task, to("m1", "delivered"), message("a", "assistant", "ok"));
    expect(await queued()).toEqual(["m3", "m2"]);
    await move(get(), after, to("m3", "moved"), to("m2", "undelivered"));
    expect(await queued()).toEqual([]);
    expect((await get().messages(task.id, 0, 100)).items.map(({ status }) => status)).toEqual([
      "moved",
      "delivered",
      "undelivered",
      null,
    ]);
    expect(await get().queuedMessages("task_none")).toEqual([]);
  });

  it("a worker that reuses the id of a user's message neither hides nor changes it", async () => {
    const task = await move(
      get(),
      await create(get()),
      claim,
      ready,
      message("m1", "user", "from the user", { mode: "follow_up", status: "queued" }),
    );
    const after = await move(get(), task, message("m1", "assistant", "same id"), message("m1", "assistant", "again"));
    expect((await get().messages(after.id, 0, 100)).items).toHaveLength(3);
    expect(await get().message(after.id, "m1")).toMatchObject({ role: "user", status: "queued" });
    await move(get(), after, { type: "message.status", data: { id: "m1", status: "delivered" } });
    expect((await get().messages(after.id, 0, 100)).items.map(({ status }) => status)).toEqual([
      "delivered",
      null,
      null,
    ]);
  });

  it("a tool call is started and finished, and a reused id makes a new row", async () => {
    const begin: Move = { type: "tool.started", data: { id: "t1", name: "bash", input: { command: "ls" } } };
    const end: Move = {
      type: "tool.finished",
      data: { id: "t1", name: "bash", output: "out", exitCode: 2, ms: 5, truncated: true },
    };
    const task = await move(get(), await create(get()), claim, ready, begin);
    const call = {
      id: "t1",
      taskId: task.id,
      attempt: 1,
      seq: 4,
      name: "bash",
      input: { command: "ls" },
      startedAt: task.updatedAt,
    };
    expect((await get().toolCalls(task.id, 0, 100)).items).toEqual([
      { ...call, endedAt: null, output: null, exitCode: null, truncated: false },
    ]);
    const after = await move(get(), task, end);
    const ended = { ...call, endedAt: after.updatedAt, output: "out", exitCode: 2, truncated: true };
    expect((await get().toolCalls(task.id, 0, 100)).items).toEqual([ended]);
    await move(get(), await move(get(), after, begin), begin);
    expect((await get().toolCalls(task.id, 0, 100)).items).toMatchObject([ended, { id: "t1", seq: 6, endedAt: null }]);
  });

  it("[V3] a task's row says how far it is: its list, the size of its change, what it did last", async () => {
    const todo = (...statuses: string[]): Move => ({
      type: "todo",
      data: { items: statuses.map((status, i) => ({ text: `step ${i}`, status })) },
    });
    const tool = (name: string, input: object): Move => ({
      type: "tool.started",
      data: { id: `t${name}`, name, input },
    });
    const created = await create(get());
    expect(created.progress).toEqual({ todo: null, changes: null, activity: null, notable: null });
    const task = await move(get(), created, claim, ready, todo("completed", "in_progress", "pending"));
    expect(task.progress).toEqual({
      todo: { done: 1, total: 3, current: "step 1" },
      changes: null,
      activity: null,
      notable: null,
    });
    const run = tool("bash", { command: "npm test\n\u001b[2J --all" });
    const sizes = { sha: "a".repeat(40), cursor: null, files: 2, additions: 30, deletions: 4 };
    const worked = await move(get(), task, { ...run, at: T0 + 7_000 }, { type: "checkpoint", data: sizes });
    expect(worked.progress).toEqual({
      todo: task.progress.todo,
      changes: { files: 2, additions: 30, deletions: 4 },
      activity: { at: T0 + 7_000, text: "npm test [2J --all" },
      notable: null,
    });
    const quiet = await move(get(), worked, notice("nothing that the agent did"));
    expect(quiet.progress).toEqual(worked.progress);
    const later = await move(get(), quiet, todo(), tool("read", { path: "src/a.ts" }));
    expect(later.progress.todo).toEqual({ done: 0, total: 0, current: null });
    expect(later.progress.activity?.text).toBe("read src/a.ts");
    const spoke = await move(get(), later, message("a1", "assistant", `${"so ".repeat(10_000)}`), cancel, stopped);
    expect(spoke.progress.activity?.text).toMatch(/^so so .*…$/);
    expect(spoke.progress.activity?.text).toHaveLength(160);
    for (const read of [await get().task(task.id), (await get().tasks({ userId: null, limit: 1 })).items[0]])
      expect(read?.progress).toEqual(spoke.progress);
    expect((await get().changes(null, spoke.rev - 1, 1)).items[0]?.progress).toEqual(spoke.progress);
  });

  it("an attempt begins with the claim and ends with a failure or a cancellation", async () => {
    const first = await move(get(), await create(get()), { ...claim, at: T0 + 5 });
    const row = { taskId: first.id, number: 1, container: sandboxName(first.id, 1), startedAt: T0 + 5 };
    expect(await get().attempts(first.id)).toEqual([{ ...row, endedAt: null, exitCode: null, failure: null }]);
    const failed = await move(get(), first, ready, { ...fail("worker_lost"), at: T0 + 9_000 });
    expect(await get().attempts(first.id)).toMatchObject([{ ...row, endedAt: T0 + 9_000, failure: "worker_lost" }]);
    const again: Move = { type: "task.state", data: { reason: "timed_out", jitter: 0 } };
    const second = await move(get(), failed, again, claim, ready, cancel);
    expect((await get().attempts(first.id))[1]).toMatchObject({ number: 2, endedAt: null });
    const end = await move(get(), second, { ...stopped, at: T0 + 20_000 });
    expect(end.state).toBe("cancelled");
    expect((await get().attempts(first.id))[1]).toMatchObject({ endedAt: T0 + 20_000, failure: null });
  });

  it("the first known exit code stays, also for a settled task, and an unknown attempt is ignored", async () => {
    const task = await move(get(), await create(get()), claim, ready, cancel, stopped);
    await get().recordExit(task.id, 1, null);
    expect((await get().attempts(task.id))[0]?.exitCode).toBeNull();
    await get().recordExit(task.id, 1, 137);
    await get().recordExit(task.id, 1, null);
    await get().recordExit(task.id, 1, 0);
    await get().recordExit(task.id, 9, 0);
    await get().recordExit("task_none", 1, 0);
    expect(await get().attempts(task.id)).toMatchObject([{ number: 1, exitCode: 137 }]);
  });
}
