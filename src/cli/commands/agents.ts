/** `slipway agents`: what a submission may ask for. */
import type { Command } from "commander";
import type { Offer } from "../../core/protocol/rest.ts";
import { asJson, client, open, print, printJson, type Io, type ReadOptions } from "../io.ts";
import { clean, table } from "../terminal/text.ts";

export function agentsCommand(program: Command, io: Io): void {
  asJson(client(program.command("agents")))
    .description("which agents and models this server offers")
    .action(async (options: ReadOptions) => {
      const offer = await open(io, options).offer();
      if (options.json) printJson(io, offer);
      else print(io, linesOf(offer));
    });
}

function linesOf({ agents, model, models, efforts, egress }: Offer): string {
  const first = (list: readonly string[]): string => list.map((one, i) => (i === 0 ? `${clean(one)} (default)` : clean(one))).join(", ");
  const none = "none: an operator sets ANTHROPIC_API_KEY";
  const rows = [
    ["models", models.length === 0 ? none : `${clean(model ?? "")} (default); ${models.map(clean).join(", ")}`],
    ["effort", models.length === 0 ? "" : efforts.join(", ")],
    ["egress", first(egress)],
  ];
  return table(["agents", first(agents)], rows);
}
