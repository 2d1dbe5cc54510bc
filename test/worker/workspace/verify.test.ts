/** The checks after the agent's work, with the real tools. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import { createTools } from "../../../worker/tools/toolbox.ts";
import { verify } from "../../../worker/workspace/verify.ts";

it("[T5] a check may take an hour, and says every so often that it runs, what it printed and its last line", async () => {
  const dir = mkdtempSync(join(tmpdir(), "sw-verify-"));
  const tools = createTools(dir, join(dir, "jobs"));
  const limits: unknown[] = [];
  const emitted: string[] = [];
  const emit = (type: string, data: { readonly text?: string }): void => {
    if (type === "notice") emitted.push(data.text ?? "");
    if (data.text?.includes("the last line") === true) writeFileSync(join(dir, "go"), "");
  };
  const parts = {
    link: { emit } as never,
    clock: systemClock,
    tools: {
      ...tools,
      run: async (...[name, input, ...rest]: Parameters<typeof tools.run>) => {
        limits.push(input["timeoutMs"]);
        return await tools.run(name, input, ...rest);
      },
    },
  };
  const command = "echo one; echo two; while [ ! -e go ]; do sleep 0.02; done; exit 3";
  const results = await verify(parts, { verify: [command], signMs: 50 }, new AbortController().signal);
  expect(results).toMatchObject([{ exitCode: 3 }]);
  expect(limits).toEqual([3_600_000]);
  expect(emitted.at(-1)).toMatch(/^A check has been running for \d+ s: 8 bytes of output, the last line: two$/);
  await tools.close();
  rmSync(dir, { recursive: true, force: true });
});
