/** What tasks can reach: the lists that operators maintain. */
import type { Command } from "commander";
import type { EgressChangeRequest, EgressListAnswer } from "../../core/protocol/rest.ts";
import { jsonOption, client, openClient, print, printJson, type Io, type ReadOptions } from "../io.ts";
import { stripControls } from "../terminal/text.ts";

type Options = ReadOptions & { readonly repo?: string };

function show(io: Io, { json }: Options, { repo, hosts, shipped }: EgressListAnswer): void {
  if (json) return printJson(io, { repo, hosts, shipped });
  if (hosts.length > 0) print(io, hosts.map(stripControls).join("\n"));
  const whose =
    repo === null
      ? "Every task with egress allowlist can reach these"
      : `Tasks on ${stripControls(repo)} can also reach these`;
  io.err.write(`${hosts.length === 0 ? "The list is empty." : `${whose}${shipped ? " (as shipped)" : ""}.`}\n`);
}

export function egressCommands(program: Command, io: Io): void {
  const withRepo = (command: Command): Command =>
    jsonOption(client(command)).option("--repo <url>", "the list of one repository");
  const group = withRepo(program.command("egress"))
    .description("Show or change what tasks with egress allowlist can reach (operators)")
    .action(async (options: Options) => {
      show(io, options, await openClient(io, options).egress(options.repo === undefined ? {} : { repo: options.repo }));
    });
  const change = async (options: Options, part: Omit<EgressChangeRequest, "repo">): Promise<void> => {
    show(
      io,
      options,
      await openClient(io, options).changeEgress({
        ...part,
        ...(options.repo === undefined ? {} : { repo: options.repo }),
      }),
    );
  };
  // The group has the same options: commander assigns each to the innermost command that defines
  // it.
  const add = (name: string, does: string): Command => withRepo(group.command(name)).description(does);
  add("allow", "add to the list")
    .argument("<host:port...>", "such as registry.example.com:443")
    .action((allow: string[], _options: Options, { optsWithGlobals }: Command) => change(optsWithGlobals(), { allow }));
  add("remove", "take from the list")
    .argument("<host:port...>")
    .action((remove: string[], _options: Options, { optsWithGlobals }: Command) =>
      change(optsWithGlobals(), { remove }),
    );
  add("reset", "back to the list as shipped").action((_options: Options, { optsWithGlobals }: Command) =>
    change(optsWithGlobals(), { reset: true }),
  );
}
