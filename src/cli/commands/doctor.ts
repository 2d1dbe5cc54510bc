/** `slipway doctor`. */
import { resolve } from "node:path";
import type { Command } from "commander";
import type { CheckResult } from "../../app/checker/doctor.ts";
import { readConfig, type Config } from "../../app/config.ts";
import { CliExit, EXIT } from "../exit.ts";
import { jsonOption, print, printJson, type Io } from "../io.ts";
import { stripControls, createPaint, pluralize, formatTable } from "../terminal/text.ts";

interface DoctorOptions {
  readonly dataDir?: string;
  readonly json?: true;
  readonly repair?: true;
  readonly public?: string;
}

async function checkUp(config: Config, options: DoctorOptions, io: Io): Promise<readonly CheckResult[]> {
  if (options.public === undefined) {
    const { runDoctor } = await import("../../app/checker/doctor.ts");
    const repair = options.repair === true ? { repair: true as const } : {};
    return await runDoctor({ config: { ...config, dataDir: resolve(config.dataDir) }, ...repair });
  }
  const url = URL.canParse(options.public) ? new URL(options.public) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.pathname !== "/")
    throw new CliExit(EXIT.usage, "--public must be an address such as https://slipway.example.org.");
  const { checkPublic } = await import("../../app/checker/public/check-public.ts");
  const { SLIPWAY_EMAIL: email, SLIPWAY_PASSWORD: password } = io.env;
  return await checkPublic({ url: url.origin, config, account: email && password ? { email, password } : null });
}

export function doctorCommand(program: Command, io: Io): void {
  jsonOption(program.command("doctor"))
    .description("Check this machine, and the data folder against the rules. Exit code 1 when a check fails")
    .option("--data-dir <folder>", "the data folder (SLIPWAY_DATA_DIR)")
    .option(
      "--repair",
      "first correct what follows from the logs, after a copy of the database; only while no server runs",
    )
    .option(
      "--public <url>",
      "check only what faces the internet at this address; with SLIPWAY_EMAIL and SLIPWAY_PASSWORD also what needs a log-in",
    )
    .action(async (options: DoctorOptions) => {
      const config = readConfig(io.env, options.dataDir === undefined ? {} : { dataDir: options.dataDir });
      const findings = await checkUp(config, options, io);
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
