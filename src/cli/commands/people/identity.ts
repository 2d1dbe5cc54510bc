/** `slipway identity`: how the commits of a person's tasks name them. */
import { Option, type Command } from "commander";
import type { ServerConfig } from "../../../core/protocol/config.ts";
import type { CommitIdentity } from "../../../core/values/git-identity.ts";
import { jsonOption, client, openClient, print, printJson, type Io, type ReadOptions } from "../../io.ts";
import { stripControls } from "../../terminal/text.ts";

type SetOptions = ReadOptions & CommitIdentity;

export function identityCommands(program: Command, io: Io): void {
  const group = jsonOption(client(program.command("identity")))
    .description("How commits of your tasks name you, and whether the server signs them")
    .action(async (options: ReadOptions) => {
      const server = openClient(io, options);
      const [identity, { commits }] = await Promise.all([server.people.commitIdentity(), server.offer()]);
      if (options.json) return printJson(io, { identity, commits });
      for (const line of describe(identity, commits)) print(io, line);
    });
  // The group has the same options: commander assigns each to the innermost command that defines
  // it.
  client(group.command("set"))
    .description("Choose the name and the address, from the next attempt on. Nobody checks that the address is yours")
    .requiredOption("--name <name>", "such as Ann Lee")
    .requiredOption("--email <email>", "such as ann@example.org")
    .addOption(
      new Option("--as <role>", "author of the commits, or what the installation says (its co-author)")
        .choices(["author", "installation"])
        .default("installation"),
    )
    .action(async (_options: SetOptions, command: Command) => {
      const options = command.optsWithGlobals<SetOptions>();
      const { name, email, as } = options;
      await openClient(io, options).people.changeCommitIdentity({ name, email, as });
      print(io, "Stored. It counts from the next attempt on.");
    });
  client(group.command("reset"))
    .description("Be named by the e-mail address of the account again")
    .action(async (_options: ReadOptions, command: Command) => {
      await openClient(io, command.optsWithGlobals<ReadOptions>()).people.deleteCommitIdentity();
      print(io, "Removed. Commits name you by the e-mail address of your account.");
    });
}

function describe(identity: CommitIdentity | null, { author, signed }: ServerConfig["commits"]): string[] {
  const isAuthor = author === null || identity?.as === "author";
  const who = identity === null ? "by the e-mail address of your account" : `${identity.name} <${identity.email}>`;
  return [
    `you        ${stripControls(who)}`,
    `as         ${isAuthor ? "author" : `co-author; the author is ${stripControls(author)}`}`,
    `signed     ${signed ? "yes, by the server when it pushes" : "no: an operator sets SLIPWAY_SIGNING_KEY_FILE"}`,
  ];
}
