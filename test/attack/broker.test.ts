/** Items 67, 79-81, 84-87: an agent that has read the attempt's token and speaks to the broker itself, from inside its container. */
import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, expect, it } from "vitest";
import { feelPulse, openStage, type Stage } from "../support/attacker.ts";
import { describeWithDocker } from "../support/engine.ts";

const FINISH = { finish: { title: "Done", summary: "Done." } };
const IDLE = { wait: 600_000 };

interface Try {
  readonly name: string;
  readonly status: number;
  readonly code: string | null;
}
const lines = (text: string): Try[] =>
  text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Try);

describeWithDocker("an agent that speaks to the broker itself", () => {
  let stage: Stage;
  let victim: { id: string; token: string; sha: string };

  beforeAll(async () => {
    stage = await openStage({ maxConcurrent: 6 });
    const id = await stage.submit([{ bash: "echo mine > mine.txt && git add . && git commit -qm mine && git rev-parse HEAD && echo committed" }, IDLE]);
    await stage.says(id, "committed");
    victim = { id, token: await stage.token(id), sha: "1".repeat(40) };
  }, 180_000);
  afterAll(async () => await stage.close());

  it("forge", async () => {
    const id = await stage.submit([{ bash: "echo ready" }, IDLE]);
    await stage.says(id, "ready");
    console.log(await stage.execIn(id, ["node", "attack/forge.mjs", victim.sha, victim.id, victim.token]));
    console.log(await stage.execIn(id, ["node", "attack/ports.mjs", "raw", victim.id, victim.sha]));
    console.log(JSON.stringify((await stage.server.events(id)).slice(-5)));
    for (const what of ["connections", "batches", "slow"]) {
      const pulse = feelPulse(stage.server);
      console.log(what, await stage.execIn(id, ["node", "attack/flood.mjs", what]), await pulse.stop());
    }
    console.log(stage.server.stderr());
  }, 200_000);
});
