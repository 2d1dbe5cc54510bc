/** What the parts of a start share. */
import type { Disposers } from "../../core/lib/disposers.ts";
import type { DescriptorPlan } from "../../core/lib/runtime/descriptors.ts";
import type { Log } from "../../core/ports/runtime.ts";
import type { Config } from "../config.ts";
import type { KnownSecrets } from "../monitoring/open-log.ts";

/** The steps of a start, in order. */
export const START_STEPS = [
  "data folder",
  "database",
  "secret key",
  "sessions",
  "sandbox",
  "coordinator",
  "http",
  "listening",
  "boot",
] as const;
export type StartStep = (typeof START_STEPS)[number];

export interface StartContext {
  readonly config: Config;
  readonly descriptors: DescriptorPlan;
  readonly log: Log;
  readonly secrets: KnownSecrets;
  readonly disposers: Disposers;
  readonly onStep: (step: StartStep) => void;
}
