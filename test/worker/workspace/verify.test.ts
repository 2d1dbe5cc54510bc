/** The checks after the agent's work, with the real tools. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import { createTools } from "../../../worker/tools/toolbox.ts";
import { verify } from "../../../worker/workspace/verify.ts";

it("[T5] a check may take an hour, and says every so often that it runs", async () => {
  const dir = mkdtempSync(join(tmpdir(), "sw-verify-"));
  const tools = createTools(dir, join(dir, "jobs"));
  const limits: unknown[] = [];
  const emitted: string[] = [];
  const parts = {
    link: { emit: (type: string) => void emitted.push(type) } as never,
    clock: systemClock,
    tools: {
      ...tools,
      run: async (...[name, input, ...rest]: Parameters<typeof tools.run>) => {
        limits.push(input["timeoutMs"]);
        return await tools.run(name, input, ...rest);
      },
    },
  };
  const results = await verify(parts, { verify: ["sleep 0.3; exit 3"], signMs: 50 }, new AbortController().signal);
  expect(results).toMatchObject([{ exitCode: 3 }]);
  expect(limits).toEqual([3_600_000]);
  expect(emitted.filter((type) => type === "notice").length).toBeGreaterThan(1);
  await tools.close();
  rmSync(dir, { recursive: true, force: true });
});
