/** Commands for accounts: login, logout, credential, token, users. */
import { Option, type Command } from "commander";
import type { SlipwayClient } from "../../../client/client.ts";
import type { Me } from "../../../client/types.ts";
import type { Role, Scope } from "../../../core/ports/accounts.ts";
import { ALL_SCOPES, ROLES, SCOPES } from "../../../core/roles.ts";
import { connectSession, isOwnServer, type ServerOptions } from "../../connect.ts";
import { CliExit, EXIT } from "../../exit.ts";
import {
  jsonOption,
  client,
  openClient,
  print,
  printJson,
  readSecret,
  parseWholeNumber,
  type Io,
  type ReadOptions,
} from "../../io.ts";
import { openSessionFile, sessionFilePath } from "../../session-file.ts";
import { rememberContext } from "../../shell/contexts.ts";
import { quotaCommand } from "./usage.ts";
import { logInByCode } from "./device-login.ts";
import { peopleCommands } from "./people.ts";
import { stripControls, formatTable } from "../../terminal/text.ts";

export function loginCommands(program: Command, io: Io): void {
  client(program.command("login"))
    .description(
      "Log in: by a code that you approve in a browser, or with --email and the password from the terminal, standard input or SLIPWAY_PASSWORD",
    )
    .option("--code", "show a code to approve in a browser (the default without an e-mail)")
    .option("--email <email>", "e-mail address of the account (SLIPWAY_EMAIL)")
    .option("--name <name>", "how `slipway context` calls the server (its host)")
    .action(async (options: LoginOptions) => {
      const server = connectSession(options, io.env);
      const user = await logIn(io, server, options);
      print(
        io,
        `Logged in at ${server.baseUrl} as ${stripControls(user.email)} (${user.role}). The session is stored in ${sessionFilePath(io.env)}.`,
      );
      const name = isOwnServer(options, io.env) ? null : rememberContext(io.env, server.baseUrl, options.name);
      if (name !== null)
        print(io, `Commands now talk to it (context ${name}); \`${io.command} context use local\` goes back.`);
    });
  client(program.command("logout"))
    .description("Log out: end the session that login stored")
    .action(async (options: ServerOptions) => {
      const server = connectSession(options, io.env);
      if (openSessionFile(server.baseUrl, io.env).load() === null)
        throw new CliExit(EXIT.failed, `There is no log-in at ${server.baseUrl} to end.`);
      await server.logout();
      print(io, `Logged out at ${server.baseUrl}.`);
    });
}

interface LoginOptions extends ServerOptions {
  readonly email?: string;
  readonly name?: string;
  readonly code?: true;
}

/** In a terminal, without an e-mail: by a code, which works for every way to log in. */
async function logIn(io: Io, server: SlipwayClient, options: LoginOptions): Promise<Me> {
  const email = options.email ?? io.env["SLIPWAY_EMAIL"];
  if (options.code || (email === undefined && io.in.isTTY)) return await logInByCode(io, server);
  if (email === undefined) throw new CliExit(EXIT.usage, "Give --email or SLIPWAY_EMAIL, or --code.");
  return (await server.login(email, await readSecret(io, "password", "SLIPWAY_PASSWORD"))).user;
}

interface CredentialOptions extends ReadOptions {
  readonly username?: string;
  readonly repo?: string;
  readonly check: boolean;
}

const CHECK_WORDS = { passed: "passed", unknown: "no answer", skipped: "not checked" } as const;
const USE_WORDS = { check: "checked ", read: "read ", push: "pushed to ", pull_request: "pull request of " } as const;

export function credentialCommands(program: Command, io: Io): void {
  const group = program.command("credential").description("Git credentials for private repositories");
  jsonOption(client(group.command("add")))
    .description(
      "Add or replace the token for a host, after the host was asked about it. It is read from the terminal, standard input or SLIPWAY_GIT_TOKEN",
    )
    .argument("<host>", "host or host:port")
    .option("--username <name>", "user name, for hosts that require one")
    .option("--repo <address>", "a repository of the host, to check that the token can read it and push to it")
    .option("--no-check", "save it without asking the host")
    .action(async (host: string, options: CredentialOptions) => {
      const server = openClient(io, options);
      const token = (await readSecret(io, "git token", "SLIPWAY_GIT_TOKEN")).trim();
      const { username, repo, check } = options;
      const made = await server.putCredential({
        host,
        kind: "token",
        token,
        ...(username === undefined ? {} : { username }),
        ...(repo === undefined ? {} : { repo }),
        ...(check ? {} : { check: false }),
      });
      if (options.json) return printJson(io, made);
      print(io, `${made.id}  ${stripControls(made.host)}`);
      // Servers of an earlier version return no check.
      if (made.check) print(io, stripControls(made.check.message));
    });
  jsonOption(client(group.command("list")))
    .description("List credentials, without their tokens")
    .action(async (options: ReadOptions) => {
      const page = await openClient(io, options).credentials({ limit: 200 });
      if (options.json) return printJson(io, page);
      const rows = page.items.map((item) => [
        item.id,
        stripControls(item.host),
        stripControls(item.username ?? ""),
        item.createdAt,
        item.check ? CHECK_WORDS[item.check.result] : "",
        item.lastUse
          ? `${item.lastUsedAt ?? ""} ${stripControls(USE_WORDS[item.lastUse.purpose] + item.lastUse.repo)}`
          : "never",
      ]);
      print(io, formatTable(["ID", "HOST", "USERNAME", "CREATED", "CHECK", "LAST USED"], rows));
    });
  client(group.command("remove"))
    .description("Remove a credential")
    .argument("<id>", "its id or its host")
    .action(async (which: string, options: ServerOptions) => {
      const server = openClient(io, options);
      const { items, next } = await server.credentials({ limit: 200 });
      const found = items.find((item) => item.id === which || item.host === which.toLowerCase());
      if (found === undefined && next === null) throw notListed("credential", which, `${io.command} credential list`);
      await server.deleteCredential(found?.id ?? which);
      print(io, "Removed.");
    });
}

const scopeWords = Object.entries(SCOPES)
  .map(([scope, text]) => `${scope}: ${text}`)
  .join(". ");

export function tokenCommands(program: Command, io: Io): void {
  const group = program.command("token").description("Personal access tokens for scripts and other devices");
  jsonOption(client(group.command("add")))
    .description("Create a token and print it once")
    .argument("<name>", "what it is for")
    .option("--days <number>", "days until it expires", parseWholeNumber)
    .option("--scopes <list>", `what it may do (all). ${scopeWords}`, parseScopes)
    .action(async (name: string, options: ReadOptions & { readonly days?: number; readonly scopes?: Scope[] }) => {
      const { days, scopes } = options;
      const made = await openClient(io, options).createToken({
        name,
        ...(days === undefined ? {} : { expiresInDays: days }),
        ...(scopes === undefined ? {} : { scopes }),
      });
      if (options.json) printJson(io, made);
      else print(io, made.token);
    });
  jsonOption(client(group.command("list")))
    .description("List tokens")
    .action(async (options: ReadOptions) => {
      const page = await openClient(io, options).tokens({ limit: 200 });
      if (options.json) return printJson(io, page);
      const rows = page.items.map((item) => [
        item.id,
        stripControls(item.name),
        item.scopes.join(","),
        item.expiresAt ?? "never",
        item.lastUsedAt ?? "never",
      ]);
      print(io, formatTable(["ID", "NAME", "SCOPES", "EXPIRES", "LAST USED"], rows));
    });
  client(group.command("remove"))
    .description("Revoke a token")
    .argument("<id>", "its id or its name")
    .action(async (which: string, options: ServerOptions) => {
      const server = openClient(io, options);
      const { items, next } = await server.tokens({ limit: 200 });
      const found = items.filter((item) => item.id === which || item.name === which);
      const [only] = found;
      if (only === undefined && next === null) throw notListed("token", which, `${io.command} token list`);
      if (found.length > 1)
        throw new CliExit(EXIT.usage, `Several tokens are called "${stripControls(which)}": give the id.`);
      await server.deleteToken(only?.id ?? which);
      print(io, "Removed.");
    });
}

export function userCommands(program: Command, io: Io): void {
  const group = program.command("users").description("Accounts of this server (admins)");
  jsonOption(client(group.command("add")))
    .description("Create an account. The password is read from the terminal, standard input or SLIPWAY_PASSWORD")
    .argument("<email>", "e-mail address")
    .addOption(new Option("--role <role>", "what they may do").choices(Object.keys(ROLES)).default("user"))
    .action(async (email: string, options: ReadOptions & { readonly role: Role }) => {
      const server = openClient(io, options);
      const password = await readSecret(io, "password", "SLIPWAY_PASSWORD");
      const made = await server.createUser({ email, password, role: options.role });
      if (options.json) printJson(io, made);
      else print(io, `${made.id}  ${stripControls(made.email)}  ${made.role}`);
    });
  jsonOption(client(group.command("list")))
    .description("List accounts")
    .action(async (options: ReadOptions) => {
      const page = await openClient(io, options).users({ limit: 200 });
      if (options.json) return printJson(io, page);
      print(
        io,
        formatTable(
          ["ID", "E-MAIL", "ROLE", "CREATED"],
          page.items.map((item) => [
            item.id,
            stripControls(item.email),
            item.disabledAt === null ? item.role : `${item.role}, disabled`,
            item.createdAt,
          ]),
        ),
      );
    });
  peopleCommands(group, io);
  quotaCommand(group, io);
}

function notListed(what: string, which: string, command: string): CliExit {
  return new CliExit(EXIT.failed, `There is no ${what} "${stripControls(which)}". \`${command}\` lists them.`);
}

function parseScopes(text: string): Scope[] {
  const scopes = text.split(",").map((scope) => scope.trim());
  const known = ALL_SCOPES.filter((scope) => scopes.includes(scope));
  if (known.length === scopes.length) return known;
  throw new CliExit(EXIT.usage, `--scopes must be a list of ${ALL_SCOPES.join(", ")} between commas.`);
}
