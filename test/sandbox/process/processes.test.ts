/** Processes of this machine, read from /proc. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { isAlive, killFollowers, startTicks } from "../../../src/sandbox/process/processes.ts";
import { createMark, hasMark } from "../../../src/core/lib/runtime/process-mark.ts";
import { hasPrlimit, withDescriptors } from "../../support/process/descriptors.ts";

function readId(pid: number): { pid: number; start: string } {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const start = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
  return { pid, start: `${readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()} ${start}` };
}

it.runIf(hasPrlimit)("[Y3] without a descriptor to read it, a running process does not count as ended", async () => {
  const self = readId(process.pid);
  expect(await isAlive(self)).toBe(true);
  await expect(withDescriptors(0, () => isAlive(self))).rejects.toMatchObject({ code: "EMFILE" });
  expect(await isAlive(self)).toBe(true);
  expect(await isAlive({ ...self, start: "another" })).toBe(false);
});

it.runIf(hasPrlimit)("[Y3] nor do its followers count as ended", async () => {
  const marks = { environment: ["SLIPWAY_BOX=none"], limit: createMark("hard", "none"), since: 0 };
  await expect(withDescriptors(0, () => killFollowers(0, marks))).rejects.toMatchObject({ code: "EMFILE" });
  await killFollowers(0, marks);
});

it.runIf(process.platform === "linux")("[D7] what started before the worker is none of its followers", async () => {
  const follower = spawn("sleep", ["60"], { env: { PATH: process.env["PATH"], SLIPWAY_BOX: "of this test" } });
  const ended = once(follower, "exit");
  const id = readId(follower.pid ?? 0);
  const marks = { environment: ["SLIPWAY_BOX=of this test"], limit: createMark("hard", "none") };
  try {
    expect(startTicks(id)).toBeGreaterThan(0);
    await killFollowers(0, { ...marks, since: startTicks(id) + 1 });
    expect(await isAlive(id)).toBe(true);
    await killFollowers(0, { ...marks, since: startTicks(id) });
    expect(await ended).toEqual([null, "SIGKILL"]);
  } finally {
    follower.kill("SIGKILL");
  }
});

it("[D7] ticks of another start of the machine, and of `ps`, count as none", () => {
  expect(startTicks({ pid: 1, start: "another-boot 5000" })).toBe(0);
  expect(startTicks({ pid: 1, start: "Mon Jan 1 00:00:00 2026" })).toBe(0);
  expect(startTicks({ pid: 0, start: "-" })).toBe(0);
});

it("marks of different names and kinds differ, and a hard one is above every soft one", () => {
  const [soft, other, hard] = [createMark("soft", "a"), createMark("soft", "b"), createMark("hard", "a")];
  const line = (softKib: string, hardKib: string): string =>
    `Max resident set          ${BigInt(softKib) * 1_024n} ${BigInt(hardKib) * 1_024n} bytes`;
  const limits = `Limit Soft Hard Units\n${line(soft.kib, hard.kib)}\nMax processes 1 1 processes\n`;
  expect([soft, other, hard].map((mark) => hasMark(limits, mark))).toEqual([true, false, true]);
  expect(BigInt(hard.kib)).toBeGreaterThan(BigInt(soft.kib));
  expect(hasMark("Max resident set unlimited unlimited bytes", soft)).toBe(false);
});
