#!/usr/bin/env node
/**
 * The command line: argv -> one command -> an exit code (cli/exit.ts). Also what `npm start` runs.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { answerCommand, cancelCommand, messageCommand, retryCommand } from "./commands/control.ts";
import { agentsCommand } from "./commands/agents.ts";
import { demoCommand } from "./demo/demo.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { egressCommands } from "./commands/egress.ts";
import { EXIT, exitCodeFor } from "./exit.ts";
import { artifactsCommand, gcCommand } from "./commands/artifacts.ts";
import type { Io } from "./io.ts";
import { diffCommand, inspectCommand, tasksCommand } from "./commands/inspect.ts";
import { credentialCommands, loginCommands, tokenCommands, userCommands } from "./commands/accounts.ts";
import { serveCommand } from "./commands/serve.ts";
import { submitCommand, watchCommand } from "./commands/submit.ts";
import { packageRoot } from "../core/lib/package-root.ts";

const version = (): string =>
  (JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as { version: string }).version;

function programFor(io: Io): Command {
  const program = new Command("slipway")
    .description("Background coding agents on your own machine: submit a repository and a prompt, get a branch back.")
    .version(version())
    .exitOverride()
    .configureHelp({ sortSubcommands: false })
    .showHelpAfterError("(--help shows how it is used)");
  const commands = [
    serveCommand,
    demoCommand,
    submitCommand,
    agentsCommand,
    watchCommand,
    tasksCommand,
    inspectCommand,
    diffCommand,
    artifactsCommand,
    cancelCommand,
    retryCommand,
    answerCommand,
    messageCommand,
    loginCommands,
    credentialCommands,
    tokenCommands,
    userCommands,
    egressCommands,
    doctorCommand,
    gcCommand,
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
    // Commander has said what was wrong, or shown the help that was asked for.
    if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? EXIT.ok : EXIT.usage;
    const { words, exit } = exitCodeFor(thrown, Boolean(process.env["SLIPWAY_DEBUG"]));
    if (words !== "") process.stderr.write(`slipway: ${words}\n`);
    return exit;
  }
}

let unread = false;
// A reader that went away (`slipway tasks | head`) is no failure. Whoever must clean up (demo,
// serve) hears of it as of a signal.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") process.exit(EXIT.failed);
  if (unread) return;
  unread = true;
  if (!process.emit("SIGTERM")) process.exit(EXIT.ok);
});
const ended = await run();
process.exitCode = unread ? EXIT.ok : ended;
