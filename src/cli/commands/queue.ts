/** `slipway queue`: whether tasks are claimed, and the drain before a stop of the machine. */
import { setTimeout as delay } from "node:timers/promises";
import type { Command } from "commander";
import type { SlipwayClient } from "../../client/client.ts";
import type { Overview } from "../../core/protocol/rest.ts";
import { CliExit, EXIT } from "../exit.ts";
import {
  client,
  jsonOption,
  openClient,
  parseWholeNumber,
  print,
  printJson,
  untilInterrupted,
  type Io,
  type ReadOptions,
} from "../io.ts";
import { openSpinner } from "../terminal/spinner.ts";
import { formatDuration, formatTable, pluralize, stripControls } from "../terminal/text.ts";

type Queue = Overview["queue"];
type Drain = NonNullable<Queue["drain"]>;

interface DrainOptions extends ReadOptions {
  readonly wait?: true;
  readonly minutes?: number;
}

const POLL_MS = 1_000;

export function queueCommands(program: Command, io: Io): void {
  const group = jsonOption(client(program.command("queue")))
    .description("Show, pause or drain the queue (operators)")
    .action(async (options: ReadOptions) => show(io, options, (await openClient(io, options).overview()).queue));
  const add = (name: string, does: string): Command => jsonOption(client(group.command(name))).description(does);
  add("pause", "start no further task; running ones continue").action(async (_: ReadOptions, command: Command) => {
    const options = command.optsWithGlobals<ReadOptions>();
    show(io, options, await openClient(io, options).pauseQueue(true));
  });
  add("resume", "start tasks again; ends a pause and a drain").action(async (_: ReadOptions, command: Command) => {
    const options = command.optsWithGlobals<ReadOptions>();
    show(io, options, await openClient(io, options).pauseQueue(false));
  });
  add("drain", "before a stop of the machine: start no further task, and show what still runs")
    .option("--wait", "end when nothing runs any more; exit code 1 when the queue is resumed meanwhile")
    .option("--minutes <number>", "with --wait: give up after so long, with exit code 1", parseWholeNumber)
    .action(async (_: DrainOptions, command: Command) => {
      const options = command.optsWithGlobals<DrainOptions>();
      const server = openClient(io, options);
      const queue = await server.drainQueue();
      show(io, options, options.wait === true ? await untilDrained(io, server, queue, options) : queue);
    });
}

/**
 * Polls until no task runs. A drain continues when the command ends early; only `queue resume` ends
 * it.
 * @throws CliExit when the queue was resumed, when the time is over, and after Ctrl-C.
 */
function untilDrained(io: Io, server: SlipwayClient, first: Queue, { minutes }: DrainOptions): Promise<Queue> {
  return untilInterrupted(async (signal) => {
    const end = minutes === undefined ? Infinity : Date.now() + minutes * 60_000;
    let queue = first;
    const status = openSpinner(io.err, () => (queue.drain === null ? "" : describe(queue.drain)));
    let said = "";
    try {
      for (;;) {
        const { drain } = queue;
        if (drain === null) throw new CliExit(EXIT.failed, "Somebody ended the drain meanwhile.");
        if (drain.state === "drained") return queue;
        const still = "The queue still drains: `slipway queue` shows what runs, `slipway queue resume` ends it.";
        if (Date.now() >= end) throw new CliExit(EXIT.failed, `${describe(drain)} ${still}`);
        const names = drain.tasks.map(({ id, title, state }) => `${id} ${state} ${stripControls(title)}`);
        if (names.join() !== said && io.err.isTTY !== true) status.line([describe(drain), ...names].join("\n  "));
        said = names.join();
        await delay(POLL_MS, undefined, { signal }).catch(() => undefined);
        if (signal.aborted) throw new CliExit(EXIT.interrupted, still);
        queue = (await server.overview({ signal })).queue;
      }
    } finally {
      status.close();
    }
  });
}

function describe({ state, running, clearing }: Drain): string {
  if (state === "drained") return "Drained: nothing runs. The server and the machine can be stopped.";
  const parts = [
    ...(running === 0 ? [] : [`${pluralize(running, "task")} still ${running === 1 ? "runs" : "run"}`]),
    ...(clearing === 0 ? [] : [`${pluralize(clearing, "ended attempt")} ${clearing === 1 ? "is" : "are"} cleared up`]),
  ];
  return `Draining: ${parts.join(", ")}.`;
}

function show(io: Io, { json }: ReadOptions, queue: Queue): void {
  if (json) return printJson(io, queue);
  const { drain, reason } = queue;
  if (drain === null) return print(io, stripControls(reason ?? "Tasks are started as slots become free."));
  const rows = drain.tasks.map(({ id, title, state, phase, startedAt }) => [
    id,
    phase ?? state,
    startedAt === null ? "" : formatDuration(Date.now() - Date.parse(startedAt)),
    stripControls(title),
  ]);
  if (rows.length > 0) print(io, formatTable(["TASK", "STATE", "FOR", "TITLE"], rows));
  print(io, `${describe(drain)} Tasks that wait stay in the queue until \`slipway queue resume\`.`);
}
