/** `slipway agents`: what a submission can request. */
import type { Command } from "commander";
import type { Capabilities } from "../../core/protocol/config.ts";
import { jsonOption, client, openClient, print, printJson, type Io, type ReadOptions } from "../io.ts";
import { stripControls, formatTable } from "../terminal/text.ts";

export function agentsCommand(program: Command, io: Io): void {
  jsonOption(client(program.command("agents")))
    .description("List what this server offers: agents, models, effort")
    .action(async (options: ReadOptions) => {
      const offer = await openClient(io, options).offer();
      if (options.json) printJson(io, offer);
      else print(io, formatCapabilities(offer));
    });
}

function formatCapabilities({ agents, model, models, efforts, egress }: Capabilities): string {
  const first = (list: readonly string[]): string =>
    list.map((one, i) => (i === 0 ? `${stripControls(one)} (default)` : stripControls(one))).join(", ");
  const none = "none: an operator sets ANTHROPIC_API_KEY";
  const rows = [
    [
      "models",
      models.length === 0 ? none : `${stripControls(model ?? "")} (default); ${models.map(stripControls).join(", ")}`,
    ],
    ["effort", models.length === 0 ? "" : efforts.join(", ")],
    ["egress", first(egress)],
  ];
  return formatTable(["agents", first(agents)], rows);
}
