import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { DEADLINES, drawMachines } from "../../machines/diagram.ts";
import { isSettled } from "../../machines/fold.ts";
import { MOVES, MOVE_NAMES, offer, valueName } from "./player.ts";
import { reachable } from "./paths.ts";

const page = join(import.meta.dirname, "../../machines/README.md");
if (process.env["UPDATE_DOCS"] === "1") writeFileSync(page, drawMachines());

describe("machines/README.md", () => {
  it("is up to date", () => {
    const hint = "the charts changed: run `UPDATE_DOCS=1 npx vitest run test/machines/readme.test.ts`";
    expect(readFileSync(page, "utf8") === drawMachines(), hint).toBe(true);
  });

  it("lists every state of the task with the clocks that set its deadline", () => {
    const seen = new Set<string>();
    for (const { play } of reachable()) {
      for (const name of isSettled(play.snapshot) ? [] : MOVE_NAMES) {
        const next = offer(play, MOVES[name](play));
        if (next === null || valueName(next.snapshot) === valueName(play.snapshot)) continue;
        const value = valueName(next.snapshot);
        const { policy, dueAt } = next.snapshot.context;
        seen.add(value);
        if (dueAt === null) expect(DEADLINES[value]).toEqual([]);
        else if (value === "retrying") expect(dueAt - next.at).toBeLessThanOrEqual(policy.backoffCapMs);
        else
          expect(
            (DEADLINES[value] ?? []).map((clock) => policy[clock]),
            `${name} to ${value}`,
          ).toContain(dueAt - next.at);
      }
    }
    expect([...seen].sort()).toEqual(Object.keys(DEADLINES).sort());
  });
});
