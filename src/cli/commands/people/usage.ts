/** `slipway usage` and `slipway users quota`: who uses how much, and who may. */
import { formatUsd } from "../../../core/lib/figures.ts";
import type { Command } from "commander";
import type { Usage } from "../../../client/types.ts";
import type { QuotaName } from "../../../core/quotas.ts";
import { CliExit, EXIT } from "../../exit.ts";
import { client, jsonOption, openClient, print, printJson, type Io, type ReadOptions } from "../../io.ts";
import { formatTable, stripControls } from "../../terminal/text.ts";
import { findUser } from "./people.ts";

const of = (used: number, limit: number | null): string => (limit === null ? `${used}` : `${used} of ${limit}`);
const dollarsOf = (used: number, limit: number | null): string =>
  limit === null ? formatUsd(used) : `${formatUsd(used)} of $${limit}`;

function toRow({ user, tasks, usd, storage, quotas }: Usage): string[] {
  return [
    stripControls(user.email),
    of(tasks.open, quotas.openTasks),
    of(tasks.day, quotas.tasksPerDay),
    dollarsOf(usd.day, quotas.dayUsd),
    dollarsOf(usd.month, quotas.monthUsd),
    `${of(Math.ceil(storage.total / 2 ** 20), quotas.storageMb)} MB`,
  ];
}

function show(io: Io, rows: readonly Usage[], { json }: ReadOptions): void {
  if (json) return printJson(io, rows);
  print(io, formatTable(["PERSON", "OPEN TASKS", "LAST 24 H", "TODAY", "THIS MONTH", "STORED"], rows.map(toRow)));
}

export function usageCommand(program: Command, io: Io): void {
  jsonOption(client(program.command("usage")))
    .description("What you use of your quotas; for operators what everybody uses")
    .action(async (options: ReadOptions) => {
      const { items } = await openClient(io, options).people.usage({ limit: 1_000 });
      show(io, items, options);
    });
}

const QUOTAS: readonly (readonly [flag: string, name: QuotaName, help: string])[] = [
  ["tasks-per-minute", "tasksPerMinute", "tasks begun in a minute"],
  ["tasks-per-day", "tasksPerDay", "tasks begun in a day"],
  ["open-tasks", "openTasks", "tasks open at once"],
  ["searches-per-minute", "searchesPerMinute", "searches in a minute"],
  ["storage-mb", "storageMb", "what is stored, MB"],
  ["day-usd", "dayUsd", "model budget per day, US dollars"],
  ["month-usd", "monthUsd", "model budget per month, US dollars"],
];

function parseQuota(flag: string, value: string): number | null {
  if (value === "none") return null;
  if (/^\d{1,6}(\.\d{1,4})?$/.test(value)) return Number(value);
  throw new CliExit(EXIT.usage, `--${flag} takes a number, or none for no limit.`);
}

/** @param group the command `users`. */
export function quotaCommand(group: Command, io: Io): void {
  const command = jsonOption(client(group.command("quota")))
    .description("Give a person other quotas than the installation's")
    .argument("<person>", "e-mail or id")
    .option("--reset", "back to the installation's quotas first");
  for (const [flag, , help] of QUOTAS) command.option(`--${flag} <number>`, `${help}; none = no limit`);
  command.action(async (which: string, options: ReadOptions & Record<string, unknown>) => {
    const server = openClient(io, options);
    const change = QUOTAS.flatMap(([flag, name]) => {
      const value = options[name];
      return typeof value === "string" ? [[name, parseQuota(flag, value)] as const] : [];
    });
    const { id } = await findUser(server, which);
    const reset = options["reset"] === true ? { reset: true as const } : {};
    show(io, [await server.people.changeQuotas(id, { ...reset, ...Object.fromEntries(change) })], options);
  });
}
