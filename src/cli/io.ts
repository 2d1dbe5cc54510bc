/** The parts of the process that a command uses, and helpers that commands share. */
import { createInterface } from "node:readline/promises";
import { text as readAll } from "node:stream/consumers";
import { Writable } from "node:stream";
import { InvalidArgumentError, Option, type Command } from "commander";
import type { SlipwayClient } from "../client/client.ts";
import { connect, type ServerOptions } from "./connect.ts";
import { CliExit, EXIT, type ExitCode } from "./exit.ts";

export interface Io {
  readonly out: NodeJS.WriteStream;
  readonly err: NodeJS.WriteStream;
  readonly in: NodeJS.ReadStream;
  readonly env: NodeJS.ProcessEnv;
  /** How this program was called, for hints. */
  readonly command: string;
  /** The code to end with; 0 when never called. */
  end(code: ExitCode): void;
}

/** The options of every command that talks to a server. */
export function client(command: Command): Command {
  return command
    .addOption(new Option("--url <url>", "the server's address (SLIPWAY_URL, else the one of the data folder)"))
    .addOption(new Option("--context <name>", "a server of `slipway context` (SLIPWAY_CONTEXT)"))
    .addOption(new Option("--data-dir <folder>", "data folder of a server on this machine (SLIPWAY_DATA_DIR)"));
}

export function jsonOption(command: Command): Command {
  return command.option("--json", "print JSON");
}

export interface ReadOptions extends ServerOptions {
  readonly json?: true;
}

export function openClient(io: Io, options: ServerOptions): SlipwayClient {
  return connect(options, io.env);
}

export function print(io: Io, text: string): void {
  io.out.write(`${text}\n`);
}

export function printJson(io: Io, value: unknown): void {
  print(io, JSON.stringify(value, null, 2));
}

/** Aborts the work at the first Ctrl-C; a second Ctrl-C ends the process. */
export async function untilInterrupted<T>(run: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const stop = (): void => {
    if (controller.signal.aborted) process.exit(EXIT.interrupted);
    controller.abort();
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  try {
    return await run(controller.signal);
  } finally {
    process.off("SIGINT", stop);
    process.off("SIGTERM", stop);
  }
}

/**
 * A secret from the variable, from a pipe, or typed without an echo. Never from the arguments,
 * which are visible to everyone on the machine.
 */
export async function readSecret(io: Io, what: string, variable: string): Promise<string> {
  const given = io.env[variable];
  if (given) return given;
  if (!io.in.isTTY) {
    const piped = (await readAll(io.in)).replace(/\r?\n$/, "");
    if (piped !== "") return piped;
    throw new CliExit(EXIT.usage, `Give the ${what} on standard input or in ${variable}.`);
  }
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  io.err.write(`${what}: `);
  const lines = createInterface({ input: io.in, output: silent, terminal: true });
  lines.on("SIGINT", () => process.exit(EXIT.interrupted));
  try {
    const typed = await lines.question("");
    io.err.write("\n");
    if (typed !== "") return typed;
    throw new CliExit(EXIT.usage, `The ${what} must not be empty.`);
  } finally {
    lines.close();
  }
}

/** A question for yes or no. @throws CliExit when the input is not a terminal. */
export async function confirm(io: Io, question: string): Promise<boolean> {
  if (!io.in.isTTY) throw new CliExit(EXIT.usage, `${question} Add --yes: this is no terminal.`);
  const lines = createInterface({ input: io.in, output: io.err, terminal: true });
  lines.on("SIGINT", () => process.exit(EXIT.interrupted));
  try {
    return /^y(?:es)?$/i.test((await lines.question(`${question} [y/N] `)).trim());
  } finally {
    lines.close();
  }
}

/** Text of an argument; `-` means standard input. */
export async function readText(io: Io, argument: string): Promise<string> {
  return argument === "-" ? readAll(io.in) : argument;
}

/** Commander names the option and the text. */
export function parseWholeNumber(text: string): number {
  if (!/^-?\d{1,9}$/.test(text)) throw new InvalidArgumentError("It must be a whole number.");
  return Number(text);
}

export function parseDecimal(text: string): number {
  if (!/^\d{1,9}(\.\d{1,6})?$/.test(text)) throw new InvalidArgumentError("It must be a number of 0 or more.");
  return Number(text);
}
