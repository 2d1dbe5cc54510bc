/** `slipway logs`: the whole conversation of a task, with the output of its tools. */
import type { Command } from "commander";
import type { WireEvent } from "../../core/protocol/events.ts";
import { client, jsonOption, openClient, print, type Io, type ReadOptions } from "../io.ts";
import { findTaskId } from "../task-argument.ts";
import { createEventRenderer } from "../terminal/event-renderer.ts";
import { createPaint, stripControlsKeepLines } from "../terminal/text.ts";

const PAGE = 500;

interface LogsOptions extends ReadOptions {
  readonly failed?: true;
}

export function logsCommand(program: Command, io: Io): void {
  jsonOption(client(program.command("logs")))
    .description("Print what happened in a task, with the whole output of its tools. With --json: one event per line")
    .argument("<id>", "the task: its id, the end of it, or `last`")
    .option("--failed", "only tools and checks that failed")
    .action(async (given: string, options: LogsOptions) => {
      const server = openClient(io, options);
      const id = await findTaskId(server, given);
      const paint = createPaint(io.out, io.env);
      const renderer = createEventRenderer(paint, io.out.columns || 100);
      for (let after = 0; ;) {
        const { items } = await server.events(id, { after, limit: PAGE });
        for (const event of items) {
          // The renderer needs the hidden events too: the command of a call comes before its
          // result.
          const lines = renderer.lines(event);
          if (options.failed && !hasFailed(event)) continue;
          if (options.json) print(io, JSON.stringify(event));
          else for (const line of [...lines, ...outputLines(event).map(paint.dim)]) print(io, line);
        }
        const last = items.at(-1);
        if (last === undefined) return;
        after = last.seq;
      }
    });
}

function hasFailed({ type, data }: WireEvent): boolean {
  if (type !== "tool.finished" && type !== "verify") return false;
  return typeof data["exitCode"] === "number" && data["exitCode"] !== 0;
}

function outputLines({ type, data }: WireEvent): string[] {
  if (type !== "tool.finished" && type !== "verify") return [];
  const output = data["output"];
  if (typeof output !== "string" || output.trim() === "") return [];
  return stripControlsKeepLines(output.trimEnd()).map((line) => `    ${line}`);
}
