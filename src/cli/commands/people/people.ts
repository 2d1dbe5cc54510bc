/** Commands about people: invitations, roles, passwords, sessions. */
import { createWriteStream } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Option, type Command } from "commander";
import type { SlipwayClient } from "../../../client/client.ts";
import { SlipwayProblem } from "../../../client/problem.ts";
import type { Account, MadeLink } from "../../../client/types.ts";
import { errorMessage } from "../../../core/error.ts";
import type { Role } from "../../../core/ports/accounts.ts";
import { ROLES } from "../../../core/roles.ts";
import { CliExit, EXIT } from "../../exit.ts";
import {
  client,
  confirm,
  jsonOption,
  openClient,
  parseWholeNumber,
  print,
  printJson,
  readSecret,
  untilInterrupted,
  type Io,
  type ReadOptions,
} from "../../io.ts";
import { connectSession, type ServerOptions } from "../../connect.ts";
import { formatTable, stripControls } from "../../terminal/text.ts";

const roleNames = Object.keys(ROLES);
const roleWords = Object.entries(ROLES)
  .map(([role, text]) => `${role}: ${text}`)
  .join(". ");

export async function findUser(server: SlipwayClient, which: string): Promise<Account> {
  const { items } = await server.users({ limit: 1_000 });
  const found = items.find(({ id, email }) => id === which || email === which.toLowerCase());
  if (found !== undefined) return found;
  throw new CliExit(EXIT.usage, `There is no person ${stripControls(which)}. slipway users list shows everybody.`);
}

function showLink(io: Io, made: MadeLink, options: ReadOptions): void {
  if (options.json) return printJson(io, made);
  print(io, made.url);
  io.err.write(`Good once, until ${made.expiresAt}. Give it to the person over a channel that you trust.\n`);
}

function showUser(io: Io, { id, email, role, disabledAt }: Account, options: ReadOptions): void {
  if (options.json) return printJson(io, { id, email, role, disabledAt });
  print(io, `${id}  ${stripControls(email)}  ${role}${disabledAt === null ? "" : "  disabled"}`);
}

type DeleteOptions = ServerOptions & { readonly tasks?: "cancel"; readonly yes?: true };

/** @param group the command `users`. */
export function peopleCommands(group: Command, io: Io): void {
  jsonOption(client(group.command("invite")))
    .description(`Make a one-time link for a new person. ${roleWords}`)
    .addOption(new Option("--role <role>", "what they may do").choices(roleNames).default("user"))
    .option("--email <email>", "the address of their account; without it they choose it")
    .option("--days <number>", "days until the link expires (7)", parseWholeNumber)
    .action(async (options: ReadOptions & { role: Role; email?: string; days?: number }) => {
      const { role, email, days } = options;
      const body = { role, ...(email === undefined ? {} : { email }), ...(days === undefined ? {} : { days }) };
      showLink(io, await openClient(io, options).people.invite(body), options);
    });
  jsonOption(client(group.command("reset")))
    .description("Make a one-time link with which a person sets a new password")
    .argument("<person>", "e-mail or id")
    .action(async (which: string, options: ReadOptions) => {
      const server = openClient(io, options);
      showLink(io, await server.people.passwordLink((await findUser(server, which)).id), options);
    });
  jsonOption(client(group.command("role")))
    .description("Give a person another role")
    .argument("<person>", "e-mail or id")
    .argument("<role>", roleNames.join(", "))
    .action(async (which: string, role: string, options: ReadOptions) => {
      if (!roleNames.includes(role)) throw new CliExit(EXIT.usage, `The role must be one of ${roleNames.join(", ")}.`);
      const server = openClient(io, options);
      const { id } = await findUser(server, which);
      showUser(io, await server.people.setRole(id, role as Role), options);
    });
  jsonOption(client(group.command("disable")))
    .description("Stop a person's log-ins, sessions, sockets and tokens")
    .argument("<person>", "e-mail or id")
    .addOption(
      new Option("--tasks <what>", "what becomes of their open tasks")
        .choices(["keep", "cancel"])
        .makeOptionMandatory(),
    )
    .action(async (which: string, options: ReadOptions & { tasks: "keep" | "cancel" }) => {
      const server = openClient(io, options);
      showUser(io, await server.people.disable((await findUser(server, which)).id, options.tasks), options);
    });
  jsonOption(client(group.command("enable")))
    .description("Let a disabled person in again")
    .argument("<person>", "e-mail or id")
    .action(async (which: string, options: ReadOptions) => {
      const server = openClient(io, options);
      showUser(io, await server.people.enable((await findUser(server, which)).id), options);
    });
  client(group.command("delete"))
    .description("Delete a person with all that they have. What they cost stays, without a name")
    .argument("<person>", "e-mail or id")
    .addOption(new Option("--tasks <what>", "what becomes of their open tasks").choices(["cancel"]))
    .option("--yes", "do not ask")
    .action(async (which: string, options: DeleteOptions) => {
      const server = openClient(io, options);
      const { id, email } = await findUser(server, which);
      const question = `Delete ${stripControls(email)} with all their tasks, files, keys and settings for good?`;
      if (!options.yes && !(await confirm(io, question))) return print(io, "Nothing was deleted.");
      await server.people.delete(id, options.tasks ?? null).catch((error: unknown) => {
        if (!(error instanceof SlipwayProblem && error.code === "task_open")) throw error;
        const [first] = error.detail.split(". ");
        throw new CliExit(EXIT.usage, `${first}. Add --tasks cancel to cancel them, or wait for their end.`);
      });
      print(io, "Deleted. What is left of it goes in the background.");
    });
  client(group.command("logout"))
    .description("End all sessions of a person")
    .argument("<person>", "e-mail or id")
    .action(async (which: string, options: ServerOptions) => {
      const server = openClient(io, options);
      await server.people.endUserSessions((await findUser(server, which)).id);
      print(io, "Ended.");
    });
}

type ExportOptions = ServerOptions & { readonly out: string; readonly user?: string };

export function exportCommand(program: Command, io: Io): void {
  client(program.command("export"))
    .description("Download all that you have: one archive with your tasks, files and settings, without secrets")
    .requiredOption("--out <file>", "write to this file (- for standard output); an existing file is not overwritten")
    .option("--user <person>", "for admins: all that this person has, by e-mail or id")
    .action(async (options: ExportOptions) => {
      const server = openClient(io, options);
      await untilInterrupted(async (signal) => {
        const content =
          options.user === undefined
            ? await server.people.exportMe({ signal })
            : await server.people.export((await findUser(server, options.user)).id, { signal });
        const target = options.out === "-" ? io.out : createWriteStream(options.out, { flags: "wx", mode: 0o600 });
        await pipeline(Readable.from(content), target, { signal, end: options.out !== "-" }).catch((error: unknown) => {
          if (signal.aborted) throw error;
          throw new CliExit(EXIT.failed, `The export is not complete: ${errorMessage(error)}.`);
        });
        if (options.out !== "-") print(io, `Written to ${options.out}.`);
      });
    });
}

export function sessionCommands(program: Command, io: Io): void {
  const group = program.command("sessions").description("Where you are logged in");
  jsonOption(client(group.command("list")))
    .description("List your sessions, the last used first")
    .action(async (options: ReadOptions) => {
      const page = await connectSession(options, io.env).people.sessions({ limit: 200 });
      if (options.json) return printJson(io, page);
      const rows = page.items.map((item) => [
        item.id,
        stripControls(item.device) + (item.current ? " (this one)" : ""),
        stripControls(item.address),
        item.lastUsedAt,
      ]);
      print(io, formatTable(["ID", "DEVICE", "ADDRESS", "LAST USED"], rows));
    });
  client(group.command("end"))
    .description("End a session, or all but this one")
    .argument("[id]", "its id")
    .option("--all", "all of them but this one")
    .action(async (id: string | undefined, options: ServerOptions & { all?: true }) => {
      if ((id === undefined) === (options.all === undefined))
        throw new CliExit(EXIT.usage, "Give the id of a session, or --all.");
      const { people } = connectSession(options, io.env);
      await (id === undefined ? people.endSessions(true) : people.endSession(id));
      print(io, "Ended.");
    });
  client(program.command("password"))
    .description("Change your password. Both are read from the terminal, or SLIPWAY_PASSWORD and SLIPWAY_NEW_PASSWORD")
    .action(async (options: ServerOptions) => {
      const { people } = connectSession(options, io.env);
      const currentPassword = await readSecret(io, "current password", "SLIPWAY_PASSWORD");
      const newPassword = await readSecret(io, "new password", "SLIPWAY_NEW_PASSWORD");
      await people.changePassword({ currentPassword, newPassword });
      print(io, "Changed. Your other sessions have ended.");
    });
}
