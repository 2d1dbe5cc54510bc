#!/usr/bin/env node
/** The command line: argv -> one command -> an exit code (cli/exit.ts). Also what `npm start` runs. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { answerCommand, cancelCommand, messageCommand, retryCommand } from "./cli/act.ts";
import { agentsCommand } from "./cli/agents.ts";
import { demoCommand } from "./cli/demo.ts";
import { doctorCommand } from "./cli/doctor.ts";
import { egressCommands } from "./cli/egress.ts";
import { EXIT, verdict } from "./cli/exit.ts";
import { artifactsCommand, gcCommand } from "./cli/keep.ts";
import type { Io } from "./cli/io.ts";
import { diffCommand, inspectCommand, tasksCommand } from "./cli/look.ts";
import { credentialCommands, loginCommands, tokenCommands, userCommands } from "./cli/people.ts";
import { serveCommand } from "./cli/serve.ts";
import { submitCommand, watchCommand } from "./cli/submit.ts";
import { packageRoot } from "./root.ts";

const version = (): string => (JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as { version: string }).version;

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
    const { words, exit } = verdict(thrown, Boolean(process.env["SLIPWAY_DEBUG"]));
    if (words !== "") process.stderr.write(`slipway: ${words}\n`);
    return exit;
  }
}

let unread = false;
// A reader that went away (`slipway tasks | head`) is no failure. Whoever must clean up (demo, serve) hears of it as of a signal.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") process.exit(EXIT.failed);
  if (unread) return;
  unread = true;
  if (!process.emit("SIGTERM")) process.exit(EXIT.ok);
});
const ended = await run();
process.exitCode = unread ? EXIT.ok : ended;
