#!/usr/bin/env node
/**
 * The command line: argv -> one command -> an exit code (cli/exit.ts). Also what `npm start` runs.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import {
  answerCommand,
  cancelCommand,
  deleteCommand,
  keepCommand,
  messageCommand,
  retryCommand,
} from "./commands/control.ts";
import { agentsCommand } from "./commands/agents.ts";
import { demoCommand } from "./demo/demo.ts";
import { backupCommand, restoreCommand } from "./commands/backup.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { identityCommands } from "./commands/people/identity.ts";
import { variableCommands } from "./commands/people/variables.ts";
import { egressCommands } from "./commands/egress.ts";
import { EXIT, exitCodeFor } from "./exit.ts";
import { artifactsCommand } from "./commands/artifacts.ts";
import { gcCommand } from "./commands/gc.ts";
import { queueCommands } from "./commands/queue.ts";
import type { Io } from "./io.ts";
import { diffCommand, inspectCommand, tasksCommand } from "./commands/inspect.ts";
import { auditCommand } from "./commands/people/audit.ts";
import { credentialCommands, loginCommands, tokenCommands, userCommands } from "./commands/people/accounts.ts";
import { keyCommands } from "./commands/people/keys.ts";
import { notificationCommands } from "./commands/people/notifications.ts";
import { logsCommand } from "./commands/logs.ts";
import { exportCommand, sessionCommands } from "./commands/people/people.ts";
import { usageCommand } from "./commands/people/usage.ts";
import { serveCommand } from "./commands/serve.ts";
import { submitCommand, watchCommand } from "./commands/submit.ts";
import { completionCommand } from "./shell/completion.ts";
import { accountCommands, passkeyCommands } from "./commands/people/own-account.ts";
import { contextCommands } from "./shell/context-commands.ts";
import { packageRoot } from "../core/lib/runtime/package-root.ts";

const version = (): string =>
  (JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as { version: string }).version;

function programFor(io: Io): Command {
  const program = new Command("slipway")
    .description("Background coding agents on your own machine: submit a repository and a prompt, get a branch back.")
    .version(version())
    .exitOverride()
    .configureHelp({ sortSubcommands: false })
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, "slipway: ")) })
    .showHelpAfterError("Add --help for usage.");
  const commands = [
    serveCommand,
    demoCommand,
    submitCommand,
    agentsCommand,
    watchCommand,
    tasksCommand,
    inspectCommand,
    logsCommand,
    diffCommand,
    artifactsCommand,
    cancelCommand,
    deleteCommand,
    keepCommand,
    retryCommand,
    answerCommand,
    messageCommand,
    loginCommands,
    contextCommands,
    sessionCommands,
    exportCommand,
    passkeyCommands,
    accountCommands,
    credentialCommands,
    tokenCommands,
    variableCommands,
    notificationCommands,
    identityCommands,
    userCommands,
    usageCommand,
    egressCommands,
    auditCommand,
    keyCommands,
    doctorCommand,
    backupCommand,
    restoreCommand,
    gcCommand,
    queueCommands,
    completionCommand,
  ];
  for (const add of commands) add(program, io);
  return program;
}

async function run(): Promise<number> {
  let code: number = EXIT.ok;
  const io: Io = {
    out: process.stdout,
    err: process.stderr,
    in: process.stdin,
    env: process.env,
    command: process.env["SLIPWAY_COMMAND"] || "slipway",
    end: (exit) => {
      code = exit;
    },
  };
  try {
    await programFor(io).parseAsync(process.argv);
    return code;
  } catch (thrown) {
    // Commander has printed the error or the requested help.
    if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? EXIT.ok : EXIT.usage;
    const { text, exit } = exitCodeFor(thrown, Boolean(process.env["SLIPWAY_DEBUG"]));
    if (text !== "") process.stderr.write(`slipway: ${text}\n`);
    return exit;
  }
}

let unread = false;
// A closed pipe (`slipway tasks | head`) is not a failure. EPIPE is treated as SIGTERM so that
// `demo` and `serve` still clean up.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") process.exit(EXIT.failed);
  if (unread) return;
  unread = true;
  if (!process.emit("SIGTERM")) process.exit(EXIT.ok);
});
const ended = await run();
process.exitCode = unread ? EXIT.ok : ended;
