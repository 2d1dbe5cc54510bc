/** `slipway audit`. */
import type { Command } from "commander";
import { EXIT } from "../../exit.ts";
import {
  client,
  jsonOption,
  openClient,
  parseWholeNumber,
  print,
  printJson,
  type Io,
  type ReadOptions,
} from "../../io.ts";
import { formatTable, stripControls } from "../../terminal/text.ts";
import type { AuditRecord } from "../../../client/types.ts";

interface AuditOptions extends ReadOptions {
  readonly verify?: true;
  readonly limit: number;
  readonly actor?: string;
  readonly action?: string;
  readonly target?: string;
}

const describe = ({ detail }: AuditRecord): string =>
  Object.entries(detail)
    .map(([name, value]) => `${name}=${String(value)}`)
    .join(" ");

export function auditCommand(program: Command, io: Io): void {
  jsonOption(client(program.command("audit")))
    .description("Who did what on this server (admins). With --verify: whether the log is whole; exit code 1 if not")
    .option("--verify", "check the chain of the rows, and print the hash of the last one to keep elsewhere")
    .option("--limit <number>", "most rows, the newest (50)", parseWholeNumber, 50)
    .option("--actor <id>", "only what this person did")
    .option("--action <name>", "only this call, for example changeRole")
    .option("--target <id>", "only what was done to this")
    .action(async (options: AuditOptions) => {
      const { people } = openClient(io, options);
      if (options.verify) {
        const found = await people.checkAudit();
        if (!found.ok) io.end(EXIT.failed);
        if (options.json) return printJson(io, found);
        const removed = found.start === 0 ? "" : `; rows 1 to ${found.start} were removed by the retention`;
        return print(
          io,
          found.ok
            ? `The log is whole: ${found.rows} rows${removed}. Row ${found.end} has the hash ${found.hash}.`
            : `BROKEN: ${stripControls(found.fault ?? "")}.`,
        );
      }
      const { limit, actor, action, target } = options;
      const page = await people.audit({
        limit,
        ...(actor === undefined ? {} : { actor }),
        ...(action === undefined ? {} : { action }),
        ...(target === undefined ? {} : { target }),
      });
      if (options.json) return printJson(io, page);
      const rows = page.items.map((row) => [
        String(row.n),
        row.at,
        row.actor ?? row.via,
        row.address === "" ? "-" : row.address,
        row.action,
        row.target ?? "",
        row.outcome,
        describe(row),
      ]);
      const cells = rows.map((row) => row.map((cell) => stripControls(cell)));
      print(io, formatTable(["N", "AT", "WHO", "FROM", "WHAT", "ON", "OUTCOME", "DETAIL"], cells));
    });
}
