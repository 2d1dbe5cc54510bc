/** Which agent programs an installation offers. */
import { SlipwayError } from "../../core/error.ts";

const ENTRY = /^([a-z][a-z0-9_-]{0,49})=(.{1,4000})$/;
const OWN_AGENTS = ["anthropic", "scripted", "acp"];

/**
 * `name=command; name=command` (or one per line) -> name -> shell command. @throws SlipwayError
 * config_invalid
 */
export function parseAcpCommands(text: string): Readonly<Record<string, string>> {
  const entries = text
    .split(/[;\n]/)
    .map((entry) => entry.trim())
    .filter((entry) => entry !== "");
  const commands = new Map<string, string>();
  for (const entry of entries) {
    const [, name = "", command = ""] = ENTRY.exec(entry) ?? [];
    if (name === "" || OWN_AGENTS.includes(name) || commands.has(name)) {
      const rule = `a name of its own (a-z, 0-9, - and _; not ${OWN_AGENTS.join(", ")})`;
      throw new SlipwayError(
        "config_invalid",
        `SLIPWAY_ACP_COMMANDS: "${entry.slice(0, 100)}" is not name=command with ${rule}.`,
      );
    }
    commands.set(name, command.trim());
  }
  return Object.fromEntries(commands);
}
