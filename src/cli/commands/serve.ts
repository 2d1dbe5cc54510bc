/** `slipway serve`. */
import { resolve } from "node:path";
import type { Command } from "commander";
import { readConfig, type Config, type Flags } from "../../app/config.ts";
import { SETTINGS, type Setting } from "../../app/options.ts";
import { SlipwayError } from "../../core/error.ts";
import type { RunningServer } from "../../app/serve.ts";
import { CliExit, EXIT } from "../exit.ts";
import { confirm, print, type Io } from "../io.ts";
import { createPaint } from "../terminal/text.ts";

export function serveCommand(program: Command, io: Io): void {
  const command = program
    .command("serve")
    .description("start the server; every option is also a variable of the environment");
  for (const setting of Object.values<Setting>(SETTINGS)) {
    command.option(`--${setting.flag} <${setting.argument}>`, `${setting.help} [${setting.env}]`);
  }
  command.action(async (flags: Flags) => {
    const config = readConfig(io.env, flags);
    const running = await begin(io, { ...config, dataDir: resolve(config.dataDir) });
    const stopped = untilStopped(running);
    print(io, `slipway: listening on ${running.url}`);
    io.err.write(banner(io, running, config));
    await stopped;
    // Whatever still holds the event loop must not hold up a stop that was asked for.
    process.exit(0);
  });
}

/** The default sandbox is given up only by a person who says so, at a terminal. */
async function begin(io: Io, config: Config): Promise<RunningServer> {
  const { serve } = await import("../../app/serve.ts");
  try {
    return await serve(config);
  } catch (error) {
    const offered =
      error instanceof SlipwayError &&
      error.code === "config_invalid" &&
      error.message.includes("SLIPWAY_SANDBOX=process");
    if (!offered || config.sandboxChosen) throw error;
    const again = `  SLIPWAY_SANDBOX=process ${io.command.startsWith("npm ") ? "npm start" : `${io.command} serve`}`;
    if (!io.in.isTTY || !io.err.isTTY) throw new CliExit(EXIT.usage, `${error.message}\n${again}`);
    io.err.write(`${error.message}\n`);
    if (!(await confirm(io, "Start without isolation this time?"))) throw new CliExit(EXIT.usage);
    return serve({ ...config, sandbox: "process", sandboxChosen: true });
  }
}

async function untilStopped(running: RunningServer): Promise<void> {
  await new Promise<void>((stop) => {
    process.once("SIGTERM", () => stop());
    process.once("SIGINT", () => stop());
  });
  await running.close();
}

/** Which agent tasks get, and whether a model key was found. */
function agentLine({ agent }: RunningServer, { anthropicApiKey, anthropicBaseUrl, model }: Config): string {
  if (anthropicApiKey === null) return `${agent} (no model key: set ANTHROPIC_API_KEY for the agent that has a model)`;
  return `${agent} (model key found; ${model ?? "no default model"} at ${new URL(anthropicBaseUrl).host})`;
}

function banner(io: Io, running: RunningServer, config: Config): string {
  const { bold, dim, yellow, cyan } = createPaint(io.err, io.env);
  const { sandbox } = running;
  const lines = ["", `  ${bold("Slipway")} ${cyan(running.url)}`];
  if (running.setupUrl !== null) lines.push(`  ${dim("admin  ")} ${running.setupUrl}  ${dim("(good once)")}`);
  lines.push(
    `  ${dim("sandbox")} ${sandbox.line}${sandbox.line.startsWith(sandbox.kind) ? "" : dim(` (${sandbox.kind})`)}`,
  );
  if (!sandbox.isolates && !sandbox.line.includes("NOT ISOLATED"))
    lines.push(`          ${yellow("NOT ISOLATED: agents can read and change whatever this user can.")}`);
  lines.push(`  ${dim("agent  ")} ${agentLine(running, config)}`);
  lines.push(`  ${dim("data   ")} ${resolve(config.dataDir)}`, "");
  lines.push(`  ${dim("a first task, from another terminal:")}`);
  lines.push(`    ${io.command} submit https://github.com/you/repo.git "Fix the failing test" --watch`, "");
  return `${lines.join("\n")}\n`;
}
