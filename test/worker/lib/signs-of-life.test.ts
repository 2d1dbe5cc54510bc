/** Signs of life of a tool that is silent and well. */
import { expect, it } from "vitest";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import { OutputSign, withSignsOfLife } from "../../../worker/lib/signs-of-life.ts";

interface Emitted {
  readonly type: string;
  readonly data: unknown;
}

function recorder(): { emitted: Emitted[]; parts: Parameters<typeof withSignsOfLife>[0] } {
  const emitted: Emitted[] = [];
  const link = { emit: (type: string, data: unknown) => void emitted.push({ type, data }) };
  return { emitted, parts: { link: link as never, clock: systemClock, everyMs: 20 } };
}

it("a silent tool emits a notice again and again, and none after its end", async () => {
  const { emitted, parts } = recorder();
  const result = await withSignsOfLife(parts, "bash", async () => {
    await expect.poll(() => emitted.length).toBeGreaterThanOrEqual(3);
    return 7;
  });
  const count = emitted.length;
  expect(result).toBe(7);
  expect(emitted[0]).toEqual({
    type: "notice",
    data: { level: "info", code: "working", text: expect.any(String) as string },
  });
  await systemClock.sleep(60);
  expect(emitted).toHaveLength(count);
});

it("the notices say what a command printed: bytes, and the last line, without what hides and bounded", async () => {
  const { emitted, parts } = recorder();
  const sign = new OutputSign();
  const texts = (): string[] => emitted.map(({ data }) => (data as { text: string }).text);
  const tool = async (): Promise<void> => {
    await expect.poll(texts).toContainEqual(expect.stringMatching(/ s\.$/));
    sign.note("one\n50 %\r\u202e100 %\n\n", 1_234);
    await expect.poll(texts).toContainEqual(expect.stringMatching(/: 1,234 bytes of output, the last line: 100 %$/));
    sign.note(`${"x".repeat(9_000)}\n`, 10_234);
    await expect.poll(texts).toContainEqual(expect.stringContaining("10,234 bytes"));
  };
  await withSignsOfLife(parts, "bash", tool, sign.describe);
  expect(texts().at(-1)?.length).toBeLessThan(400);
});

it("the failure of the tool is its own, and ends the notices", async () => {
  const { emitted, parts } = recorder();
  await expect(withSignsOfLife(parts, "bash", () => Promise.reject(new Error("broken")))).rejects.toThrow("broken");
  const count = emitted.length;
  await systemClock.sleep(60);
  expect(emitted).toHaveLength(count);
});
