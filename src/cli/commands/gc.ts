/** `slipway gc`: garbage collection on a running server. */
import type { Command } from "commander";
import type { Leftovers } from "../../client/types.ts";
import { EXIT } from "../exit.ts";
import { client, jsonOption, openClient, print, printJson, type Io, type ReadOptions } from "../io.ts";
import { openSpinner } from "../terminal/spinner.ts";
import { formatDuration, formatTable, pluralize, stripControls } from "../terminal/text.ts";
import { formatBytes } from "./artifacts.ts";

interface GcOptions extends ReadOptions {
  readonly dryRun?: true;
}

export function gcCommand(program: Command, io: Io): void {
  jsonOption(client(program.command("gc")))
    .description("Remove sandboxes, volumes and repositories that no task needs any more (operators)")
    .option("--dry-run", "list it without removing it")
    .action(async (options: GcOptions) => {
      const server = openClient(io, options);
      const begun = Date.now();
      const status = openSpinner(io.err, () => `searching for garbage (${formatDuration(Date.now() - begun)})`);
      let found: Leftovers;
      try {
        found = await server.gc({ dryRun: options.dryRun ?? false });
      } finally {
        status.close();
      }
      const failed = found.items.filter(({ error }) => error !== null);
      if (failed.length > 0) io.end(EXIT.failed);
      if (options.json) return printJson(io, found);
      if (found.items.length === 0) return print(io, "Nothing to remove.");
      const rows = found.items.map(({ kind, name, bytes, error }) => [
        kind,
        stripControls(name),
        bytes === null ? "?" : formatBytes(bytes),
        stripControls(error ?? ""),
      ]);
      print(io, formatTable(["KIND", "NAME", "SIZE", "PROBLEM"], rows));
      const removed = pluralize(found.items.length - failed.length, "item");
      print(io, `${removed} ${found.dryRun ? "can be removed" : "removed"}, at least ${formatBytes(found.bytes)}.`);
    });
}
