/** The models that a person may choose among: by name, and those with a price. */
import type { ServerConfig } from "../../../../src/core/protocol/config.ts";

export const listModels = ({ models, prices }: ServerConfig): string[] => [
  ...new Set([...models.filter((name) => !name.endsWith("*")), ...Object.keys(prices)]),
];
