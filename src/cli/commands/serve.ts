/** `slipway serve`. */
import { resolve } from "node:path";
import { Option, type Command } from "commander";
import { readConfig, type Config, type Flags } from "../../app/config.ts";
import { SETTINGS } from "../../app/options.ts";
import type { Setting } from "../../app/settings/defaults.ts";
import type { RunningServer } from "../../app/serve.ts";
import { print, type Io } from "../io.ts";
import { createPaint } from "../terminal/text.ts";

export function serveCommand(program: Command, io: Io): void {
  const command = program
    .command("serve")
    .description("Start the server. Every option is also an environment variable.");
  for (const setting of Object.values<Setting>(SETTINGS)) {
    command.option(`--${setting.flag} <${setting.argument}>`, `${setting.help} [${setting.env}]`);
    if (setting.formerly !== undefined)
      command.addOption(new Option(`--${setting.formerly.flag} <${setting.argument}>`).hideHelp());
  }
  command.action(async (flags: Flags) => {
    const config = readConfig(io.env, flags);
    const { serve } = await import("../../app/serve.ts");
    const asked = untilAsked();
    const running = await serve({ ...config, dataDir: resolve(config.dataDir) });
    print(io, `slipway: listening on ${running.url}`);
    io.err.write(banner(io, running, config));
    await asked;
    await running.close();
    // A handle that is still open must not delay a requested stop.
    process.exit(0);
  });
}

/**
 * A signal that arrives during the start stops the server as soon as it has started; a second one
 * ends the process at once.
 */
function untilAsked(): Promise<void> {
  return new Promise((resolve) => {
    process.once("SIGTERM", () => resolve());
    process.once("SIGINT", () => resolve());
  });
}

/** The default agent, and whether a model key was found. */
function agentLine({ agent }: RunningServer, { anthropicApiKey, anthropicBaseUrl, model }: Config): string {
  if (anthropicApiKey === null) return `${agent} (no model key: set ANTHROPIC_API_KEY for the agent that has a model)`;
  return `${agent} (model key found; ${model ?? "no default model"} at ${new URL(anthropicBaseUrl).host})`;
}

function banner(io: Io, running: RunningServer, config: Config): string {
  const { bold, dim, yellow, cyan } = createPaint(io.err, io.env);
  const { sandbox } = running;
  const lines = ["", `  ${bold("Slipway")} ${cyan(running.url)}`];
  if (running.setupUrl !== null) lines.push(`  ${dim("admin  ")} ${running.setupUrl}  ${dim("(valid once)")}`);
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
