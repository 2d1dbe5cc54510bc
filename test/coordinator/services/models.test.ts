/** The model of a task is known, priced and offered when the task is submitted. */
import { afterEach, describe, expect, it } from "vitest";
import { PRICES } from "../../../src/broker/model/price-table.ts";
import { planRetry } from "../../../src/coordinator/services/tasks/retry-and-follow-up.ts";
import type { Task } from "../../../src/core/task.ts";
import { ALICE, openHarness, type Harness } from "../../support/coordinator/harness.ts";

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

describe("[A7] [G1] the model of a later task of the thread", () => {
  async function settled(): Promise<string> {
    harness = await openHarness({
      settings: {
        agents: ["anthropic", "scripted"],
        model: "claude-sonnet-5-5",
        models: ["claude-*"],
        knownModels: Object.keys(PRICES.models),
      },
    });
    const { id } = await harness.submit({ model: "opus", effort: "low" });
    const { tasks } = harness.coordinator;
    const message = tasks.message(ALICE, id, { text: "Faster.", model: "haiku" }, null);
    await expect(message).rejects.toMatchObject({ code: "task_open" });
    await tasks.cancel(ALICE, id, true);
    await harness.until(id, "cancelled");
    return id;
  }
  const choice = ({ spec }: Pick<Task, "spec">) => [spec.agent, spec.model, spec.effort];

  it.each([
    [{}, ["anthropic", "claude-opus-5-5", "low"]],
    [{ model: "haiku" }, ["anthropic", "claude-haiku-5-5", "low"]],
    [{ effort: "max" as const }, ["anthropic", "claude-opus-5-5", "max"]],
    [{ agent: "scripted" }, ["scripted", null, "low"]],
  ])("a retry with %j", async (changes, wanted) => {
    const id = await settled();
    expect(choice(await harness.coordinator.tasks.retry(ALICE, id, { from: "start", ...changes }))).toEqual(wanted);
  });

  it("a follow-up has the model and effort that the message names, and refuses what a submission refuses", async () => {
    const id = await settled();
    const { tasks } = harness.coordinator;
    const followUp = async (request: object) => await tasks.message(ALICE, id, { text: "Go on.", ...request }, null);
    await expect(followUp({ model: "claude-typo-9" })).rejects.toMatchObject({ code: "model_unavailable" });
    await expect(tasks.retry(ALICE, id, { agent: "nobody" })).rejects.toMatchObject({ code: "agent_unavailable" });
    const sent = await followUp({ model: "sonnet", effort: "high" });
    expect("task" in sent ? choice(sent.task) : null).toEqual(["anthropic", "claude-sonnet-5-5", "high"]);
  });

  it("[A18] an agent whose work cannot be reviewed drops the review; another model keeps it", async () => {
    const id = await settled();
    const parent = await harness.task(id);
    const reviewed = { ...parent, spec: { ...parent.spec, reviewModel: "claude-haiku-5-5" } };
    const options = {
      agents: ["anthropic", "scripted"],
      model: "claude-sonnet-5-5",
      models: ["claude-*"],
      forges: [],
      maxLimits: { memoryMb: 1, cpus: 1, diskMb: 1 },
    };
    const plan = async (request: object) => (await planRetry(harness.store, reviewed, request, options)).spec;
    expect((await plan({ agent: "scripted" })).reviewModel).toBeUndefined();
    expect((await plan({ model: "claude-haiku-5-5" })).reviewModel).toBe("claude-haiku-5-5");
  });
});
