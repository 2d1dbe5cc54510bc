/** Scenarios of no content, which full-run.test.ts runs with several seeds. */
import { describe, expect } from "vitest";
import { inFullRuns, inTurn, inTurnTogether } from "./full-run.ts";

const it = inTurn(3);
const pass = (): void => expect(1).toBe(1);

it("one", pass);
it("two", pass);
it("three", { timeout: 60_000 }, pass);
it.always("in every run", pass);
it("four", pass);
it("five", pass);
it.each(["each"])("of %s", pass);
it("six", pass);

const together = inTurnTogether(3, 1);
together("built", pass);
together("upon", pass);

inFullRuns(describe)("a long suite", () => it.always("in it", pass));
