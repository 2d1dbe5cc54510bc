/**
 * A command, a check and an answer of the model that take longer than the limit of silence: a real
 * server and worker.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { startFakeModel } from "../../../src/broker/model/fake/server.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { startGitServer } from "../../support/git-server.ts";
import { eventually, startServer } from "../../support/process/server.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(2);
const KEY = "sk-silent";
/** Also on a busy machine longer than the save and the push, which show no signs of life. */
const SILENCE_S = 15;
const LONGER_S = 2 * SILENCE_S + 1;

/** @returns how the task ended, and the texts of its signs of life. */
async function run(order: object, modelUrl: string | null = null) {
  const dir = mkdtempSync(join(tmpdir(), "slipway-silent-"));
  const upstream = await startGitServer();
  const model = modelUrl === null ? {} : { ANTHROPIC_API_KEY: KEY, ANTHROPIC_BASE_URL: modelUrl };
  const server = await startServer({
    dataDir: join(dir, "data"),
    policy: { silenceMs: SILENCE_S * 1_000 },
    env: { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host, ...model },
  });
  try {
    const repo = upstream.createRepo("app", { "README.md": "# App\n" }).url;
    const submitted = await server.call("POST", "/v1/tasks", { repo, prompt: "Be slow.", ...order });
    const { id } = submitted.body as WireTask;
    const { state, attempt } = await eventually(async () => {
      const now = await server.task(id);
      return now.settledAt === null ? null : now;
    }, "the end");
    const signs = (await server.events(id)).flatMap(({ data }) =>
      data["code"] === "working" ? [String(data["text"])] : [],
    );
    return { end: [state, attempt], signs };
  } finally {
    await server.kill("SIGTERM");
    await upstream.close();
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

it("[T5] a command and a check that print nothing for longer than the silence limit end well at the first attempt", async () => {
  const script = [{ bash: `echo begun; sleep ${LONGER_S}; echo a > a.txt` }, { finish: { title: "T", summary: "" } }];
  const { end, signs } = await run({ script, verify: [`sleep ${LONGER_S}`] });
  expect(end).toEqual(["done", 1]);
  expect(signs.filter((text) => /^bash .*: 6 bytes of output, the last line: begun$/.test(text))).not.toEqual([]);
  expect(signs.filter((text) => /^A check has been running for \d+ s\.$/.test(text))).not.toEqual([]);
});

it("[T5] [A8] an answer of the model that takes longer than the silence limit ends well at the first attempt", async () => {
  const finish = { name: "finish", input: { summary: "Nothing was to do." } };
  const turns = [{ pings: LONGER_S * 10, delayMs: 100, say: "I thought for long.", tools: [finish] }];
  const fake = await startFakeModel({ scenarios: { default: { turns } }, apiKey: KEY });
  try {
    const { end, signs } = await run({}, fake.url);
    expect(end).toEqual(["done", 1]);
    expect(signs.filter((text) => /^The model's answer has been running for \d+ s/.test(text))).not.toEqual([]);
  } finally {
    await fake.close();
  }
});
