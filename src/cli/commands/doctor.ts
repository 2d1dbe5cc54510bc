/** `slipway doctor`. */
import { resolve } from "node:path";
import type { Command } from "commander";
import { readConfig } from "../../app/config.ts";
import { EXIT } from "../exit.ts";
import { jsonOption, print, printJson, type Io } from "../io.ts";
import { stripControls, createPaint, pluralize, formatTable } from "../terminal/text.ts";

export function doctorCommand(program: Command, io: Io): void {
  jsonOption(program.command("doctor"))
    .description("Check this machine, and the data folder against the rules. Exit code 1 when a check fails")
    .option("--data-dir <folder>", "the data folder (SLIPWAY_DATA_DIR)")
    .option(
      "--repair",
      "first correct what follows from the logs, after a copy of the database; only while no server runs",
    )
    .action(async (options: { readonly dataDir?: string; readonly json?: true; readonly repair?: true }) => {
      const config = readConfig(io.env, options.dataDir === undefined ? {} : { dataDir: options.dataDir });
      const { runDoctor: checkUp } = await import("../../app/checker/doctor.ts");
      const repair = options.repair === true ? { repair: true as const } : {};
      const findings = await checkUp({ config: { ...config, dataDir: resolve(config.dataDir) }, ...repair });
      const broken = findings.filter(({ ok }) => !ok).length;
      if (broken > 0) io.end(EXIT.failed);
      if (options.json) return printJson(io, findings);
      const { green, red } = createPaint(io.out, io.env);
      print(
        io,
        formatTable(
          ["RULE", "", "DETAIL"],
          findings.map(({ rule, ok, detail }) => [stripControls(rule), ok ? "ok" : "BROKEN", stripControls(detail)]),
        ),
      );
      print(io, broken === 0 ? green("All checks passed.") : red(`${pluralize(broken, "finding")}`));
    });
}
