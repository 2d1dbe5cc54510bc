/**
 * A command and a check that are silent for longer than the limit of silence: a real server and
 * worker.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { startGitServer } from "../../support/git-server.ts";
import { eventually, startServer } from "../../support/process/server.ts";

it(
  "[T5] a command and a check that print nothing for longer than the silence limit end well at the first attempt",
  { timeout: 120_000 },
  async () => {
    const dir = mkdtempSync(join(tmpdir(), "slipway-silent-"));
    const upstream = await startGitServer();
    const server = await startServer({
      dataDir: join(dir, "data"),
      policy: { silenceMs: 3_000 },
      env: { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host },
    });
    try {
      const repo = upstream.createRepo("app", { "README.md": "# App\n" }).url;
      const script = [{ bash: "sleep 7; echo a > a.txt" }, { finish: { title: "T", summary: "" } }];
      const order = { repo, prompt: "Be slow.", script, verify: ["sleep 7"] };
      const { id } = (await server.call("POST", "/v1/tasks", order)).body as WireTask;
      const task = await eventually(async () => {
        const now = await server.task(id);
        return now.settledAt === null ? null : now;
      }, "the end");
      expect([task.state, task.attempt]).toEqual(["done", 1]);
      const signs = (await server.events(id)).filter(({ data }) => data["code"] === "working");
      expect(signs.length).toBeGreaterThanOrEqual(2);
    } finally {
      await server.kill("SIGTERM");
      await upstream.close();
      rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
    }
  },
);
