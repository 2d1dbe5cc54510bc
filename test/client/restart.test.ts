import { join } from "node:path";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { WebSocket } from "ws";
import { openUpstream, SAMPLE_USER, type Upstream } from "../../src/cli/demo/sample-project.ts";
import { SlipwayClient, type WireEvent } from "../../src/client/index.ts";
import { findFixedPort } from "../support/process/fixed-port.ts";
import { killAll, makeHome, ROOT, start, type Command } from "../cli/command.ts";

let home = "";
let remove = (): void => undefined;
let upstream: Upstream;
let password = "";
beforeAll(async () => {
  ({ home, remove } = makeHome());
  ({ upstream, token: password } = await openUpstream(ROOT, join(home, "upstream")));
});
afterAll(async () => {
  killAll();
  await upstream.close();
  remove();
});

async function serve(port: string): Promise<{ server: Command; url: string }> {
  const env = {
    SLIPWAY_PORT: port,
    SLIPWAY_SANDBOX: "process",
    SLIPWAY_DATA_DIR: "data",
    SLIPWAY_LOG_LEVEL: "silent",
    SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
  };
  const server = start(home, ["serve"], { env });
  const line = await server.saw(/listening on http:\/\/\S+/);
  return { server, url: line.slice("listening on ".length) };
}

it("[F1] a watch sees every event once and in order while the server is killed and started again", async () => {
  const { url: repo } = upstream.createRepo("app", { "README.md": "# app\n" });
  const port = String(await findFixedPort());
  const first = await serve(port);
  const { url } = first;
  let { server } = first;
  const token = readFileSync(join(home, "data", "operator.token"), "utf8").trim();
  const client = new SlipwayClient({ baseUrl: url, token, WebSocket });
  await client.putCredential({ host: upstream.host, kind: "token", username: SAMPLE_USER, token: password });
  const steps = Array.from({ length: 12 }, (_, i) => [{ say: `step ${i}` }, { wait: 250 }]).flat();
  const task = await client.submit({
    repo,
    prompt: "count",
    agent: "scripted",
    script: [...steps, { write: { path: "a.txt", content: "a\n" } }],
  });

  const seen: WireEvent[] = [];
  let kills = 0;
  for await (const event of client.watch(task.id)) {
    seen.push(event);
    const words = JSON.stringify(event.data);
    if ((kills === 0 && words.includes('"step 2"')) || (kills === 1 && words.includes('"step 7"'))) {
      kills += 1;
      server.process.kill("SIGKILL");
      await server.ended;
      ({ server } = await serve(port));
    }
  }
  expect(kills).toBe(2);
  expect(seen.map(({ seq }) => seq)).toEqual(seen.map((_, i) => i + 1));
  expect(seen.at(-1)?.to).toBe("done");
  const stored = await client.events(task.id, { limit: 1_000 });
  expect(seen).toEqual(stored.items);
  const said = seen.flatMap(({ type, data }) => (type === "message" ? [JSON.stringify(data["content"])] : []));
  expect(said.filter((text) => text.includes('"step ')).length).toBe(12);
  server.process.kill("SIGTERM");
  expect((await server.ended).code).toBe(0);
});
