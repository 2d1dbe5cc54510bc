/** Work that needs the task repository is repeated, refused or waited for. */
import { expect, it } from "vitest";
import { PUSH_LATER } from "../../../src/core/protocol/worker.ts";
import { retryUnreachable } from "../../../worker/connection/retry.ts";
import { Unreachable } from "../../../worker/workspace/workspace.ts";

const never = new AbortController().signal;

/** Time passes at once. */
function setUp() {
  const notices: unknown[] = [];
  const pauses: number[] = [];
  const parts = {
    link: { reach: () => Promise.resolve(), emit: (_type: string, data: unknown) => void notices.push(data) },
    clock: { sleep: (ms: number) => Promise.resolve(void pauses.push(ms)) },
  } as unknown as Parameters<typeof retryUnreachable>[0];
  return { notices, pauses, parts };
}

/** Fails that often with git's output. */
function failing(times: number, output: string): () => Promise<string> {
  let calls = 0;
  return () =>
    ++calls > times ? Promise.resolve("done") : Promise.reject(new Unreachable("the push failed", null, output));
}

const REFUSED = " ! [remote rejected] HEAD -> refs/slipway/work (only refs/slipway/work can be pushed)";
const LATER = `remote: slipway: ${PUSH_LATER}\n ! [remote rejected] HEAD -> refs/slipway/work (${PUSH_LATER})`;

it("[Y5] a push that finds no room on the server's disk is sent again until it passes, with one notice", async () => {
  const { notices, pauses, parts } = setUp();
  expect(await retryUnreachable(parts, never, failing(50, LATER))).toBe("done");
  expect(pauses).toEqual(Array.from({ length: 50 }, () => 10_000));
  expect(notices).toEqual([{ level: "warning", code: "push_waits", text: expect.stringContaining("too little room") }]);
});

it("a refusal for any other reason counts, and the fourth one rejects", async () => {
  const { notices, parts } = setUp();
  expect(await retryUnreachable(parts, never, failing(3, REFUSED))).toBe("done");
  await expect(retryUnreachable(parts, never, failing(4, REFUSED))).rejects.toThrow("the push failed");
  expect(notices).toEqual([]);
});
