/** `slipway variables`: what the commands of a person's tasks on a repository get. */
import { Option, type Command } from "commander";
import { VARIABLE_PHASES, type VariablePhase } from "../../../core/protocol/repositories.ts";
import { jsonOption, client, openClient, print, printJson, readSecret, type Io, type ReadOptions } from "../../io.ts";
import { formatTable, stripControls } from "../../terminal/text.ts";

type SetOptions = ReadOptions & { readonly plain?: true; readonly phase?: VariablePhase };

export function variableCommands(program: Command, io: Io): void {
  const group = jsonOption(client(program.command("variables")))
    .description("Variables of repositories: values for the commands of your tasks")
    .argument("[repo]", "only those of this repository")
    .action(async (repo: string | undefined, options: ReadOptions) => {
      const server = openClient(io, options);
      const { items } = await server.repositories.variables({ limit: 100, ...(repo === undefined ? {} : { repo }) });
      if (options.json) return printJson(io, items);
      if (items.length === 0) return void io.err.write("There are no variables.\n");
      const rows = items.map((item) =>
        [item.repo, item.name, item.phase, item.value ?? "(secret)"].map((cell) => stripControls(cell)),
      );
      print(io, formatTable(["REPOSITORY", "NAME", "FOR", "VALUE"], rows));
    });
  // The group has the same options: commander assigns each to the innermost command that defines
  // it.
  jsonOption(client(group.command("set")))
    .description("Store a variable. The value is read from the terminal, standard input or SLIPWAY_VARIABLE")
    .argument("<repo>", "address of the git repository")
    .argument("<name>", "such as NPM_TOKEN")
    .option("--plain", "not a secret: the value is shown, and not redacted")
    .addOption(
      new Option("--phase <phase>", "setup = gone when the agent begins (a secret's default); agent = stays").choices([
        ...VARIABLE_PHASES,
      ]),
    )
    .action(async (repo: string, name: string, _options: SetOptions, command: Command) => {
      const options = command.optsWithGlobals<SetOptions>();
      const value = await readSecret(io, "value", "SLIPWAY_VARIABLE");
      const { phase, plain } = options;
      const stored = await openClient(io, options).repositories.putVariable({
        repo,
        name,
        value,
        secret: plain !== true,
        ...(phase === undefined ? {} : { phase }),
      });
      if (options.json) return printJson(io, stored);
      const who = stored.phase === "setup" ? "the setup" : "the setup and the agent";
      io.err.write(`Stored. From the next task on, the commands of ${who} have ${name}.\n`);
    });
  client(group.command("remove"))
    .description("Delete a variable")
    .argument("<repo>")
    .argument("<name>")
    .action(async (repo: string, name: string, _options: ReadOptions, command: Command) => {
      await openClient(io, command.optsWithGlobals<ReadOptions>()).repositories.deleteVariable({ repo, name });
      print(io, `Deleted ${stripControls(name)}.`);
    });
}
