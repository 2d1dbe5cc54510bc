/** A plain task spec; tests override the fields that they are about. */
import type { TaskSpec } from "../../src/core/task.ts";

export const PLAIN_SPEC: TaskSpec = {
  repo: "https://git.example/o/r",
  base: null,
  branch: "slipway/x",
  prompt: "do it",
  title: "A title",
  agent: "scripted",
  model: null,
  effort: null,
  script: null,
  budget: {},
  limits: {},
  egress: "none",
  pullRequest: "none",
  verify: [],
  priority: 0,
  maxAttempts: 3,
  from: "start",
  expectSha: null,
};
