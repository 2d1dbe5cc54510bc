/** The model of a task is known, priced and offered when the task is submitted. */
import { afterEach, describe, expect, it } from "vitest";
import { PRICES } from "../../../src/broker/model/price-table.ts";
import { openHarness, type Harness } from "../../support/coordinator/harness.ts";

let harness: Harness;
afterEach(() => harness.close());

async function submit(model: string, models = ["claude-*"]): Promise<string | null> {
  harness = await openHarness({
    settings: {
      agents: ["anthropic", "scripted"],
      model: "claude-sonnet-5-5",
      models,
      knownModels: Object.keys(PRICES.models),
    },
  });
  return (await harness.submit({ model })).spec.model;
}

describe("[G1] the model of a submission", () => {
  it.each([
    ["opus", "claude-opus-5-5"],
    ["sonnet", "claude-sonnet-5-5"],
    ["claude-opus-5-5-20261015", "claude-opus-5-5-20261015"],
  ])("%s is %s", async (wanted, model) => {
    expect(await submit(wanted)).toBe(model);
  });

  it("a name that was mistyped is refused with the nearest one, and nothing is created", async () => {
    await expect(submit("claude-opus-5.5")).rejects.toMatchObject({
      code: "model_unavailable",
      message: expect.stringContaining('Did you mean "claude-opus-5-5"?') as string,
    });
    expect((await harness.store.tasks({ userId: null, limit: 1 })).items).toEqual([]);
  });

  it("a model without a price is refused with what an operator can do", async () => {
    await expect(submit("house-model", ["*"])).rejects.toMatchObject({
      code: "model_unavailable",
      message: expect.stringContaining("SLIPWAY_PRICES") as string,
    });
  });

  it("the nearest name is one that the installation offers", async () => {
    await expect(submit("claude-opus-5-5", ["claude-opus-5", "claude-haiku-*"])).rejects.toMatchObject({
      code: "model_unavailable",
      message: expect.stringContaining('Did you mean "claude-opus-5"?') as string,
    });
  });
});
