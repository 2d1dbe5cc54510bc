/** Commands about the own account: passkeys, and its end. Both need a fresh log-in. */
import { Option, type Command } from "commander";
import { SlipwayProblem } from "../../../client/problem.ts";
import { connectSession, type ServerOptions } from "../../connect.ts";
import { CliExit, EXIT } from "../../exit.ts";
import { client, confirm, jsonOption, print, printJson, type Io, type ReadOptions } from "../../io.ts";
import { openSessionFile } from "../../session-file.ts";
import { formatTable, stripControls } from "../../terminal/text.ts";

export function passkeyCommands(program: Command, io: Io): void {
  const group = program.command("passkeys").description("Your passkeys; browsers make them, under You in the app");
  jsonOption(client(group.command("list")))
    .description("List your passkeys")
    .action(async (options: ReadOptions) => {
      const page = await connectSession(options, io.env).people.passkeys({ limit: 200 });
      if (options.json) return printJson(io, page);
      const rows = page.items.map((item) => [
        item.id,
        stripControls(item.name) + (item.usable ? "" : " (for another address of the server)"),
        item.createdAt,
        item.lastUsedAt ?? "never",
      ]);
      print(io, formatTable(["ID", "NAME", "CREATED", "LAST USED"], rows));
    });
  client(group.command("remove"))
    .description("Remove a passkey, for example of a lost device")
    .argument("<id>", "its id or its name")
    .action(async (which: string, options: ServerOptions) => {
      const { people } = connectSession(options, io.env);
      const { items } = await people.passkeys({ limit: 200 });
      const found = items.filter((item) => item.id === which || item.name === which);
      const [only] = found;
      const shown = stripControls(which);
      if (only === undefined)
        throw new CliExit(EXIT.failed, `There is no passkey "${shown}". \`${io.command} passkeys list\` lists them.`);
      if (found.length > 1) throw new CliExit(EXIT.usage, `Several passkeys are called "${shown}": give the id.`);
      await people.deletePasskey(only.id);
      print(io, "Removed.");
    });
}

type DeleteOptions = ServerOptions & { readonly tasks?: "cancel"; readonly yes?: true };

export function accountCommands(program: Command, io: Io): void {
  const group = program.command("account").description("Your account");
  client(group.command("delete"))
    .description("Delete your account with all that you have. What you cost stays, without a name")
    .addOption(new Option("--tasks <what>", "what becomes of your open tasks").choices(["cancel"]))
    .option("--yes", "do not ask")
    .action(async (options: DeleteOptions) => {
      const server = connectSession(options, io.env);
      const { email } = await server.me();
      const question = `Delete your account ${stripControls(email)} with all tasks, files, keys and settings for good?`;
      if (!options.yes && !(await confirm(io, question))) return print(io, "Nothing was deleted.");
      await server.people.deleteMe(options.tasks ?? null).catch((error: unknown) => {
        if (!(error instanceof SlipwayProblem && error.code === "task_open")) throw error;
        const [first] = error.detail.split(". ");
        throw new CliExit(EXIT.usage, `${first}. Add --tasks cancel to cancel them, or wait for their end.`);
      });
      await openSessionFile(server.baseUrl, io.env).save(null);
      print(io, "Deleted. What is left of it goes in the background.");
    });
}
