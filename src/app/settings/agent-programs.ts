/** Which agent programs an installation offers. */
import { readFileSync } from "node:fs";
import { z } from "zod";
import { errorMessage, SlipwayError } from "../../core/error.ts";
import { agentProgramSchema, type AgentProgram, type AgentPrograms } from "../../core/values/agent-program.ts";

const ENTRY = /^([a-z][a-z0-9_-]{0,49})=(.{1,4000})$/;
const NAME = /^[a-z][a-z0-9_-]{0,49}$/;
const OWN_AGENTS = ["anthropic", "scripted", "acp", "exec"];
const NAME_RULE = `a name of its own (a-z, 0-9, - and _; not ${OWN_AGENTS.join(", ")})`;

/**
 * The programs of `name=command; name=command` (or one per line), which speak the Agent Client
 * Protocol, and those of a file: a JSON object of programs by name.
 * @throws SlipwayError config_invalid
 */
export function readAgentPrograms(acpCommands: string, file: string | null): AgentPrograms {
  const programs = parseAcpCommands(acpCommands);
  if (file === null) return Object.fromEntries(programs);
  for (const [name, program] of Object.entries(readFile(file))) {
    if (!isFree(programs, name))
      throw new SlipwayError("config_invalid", `SLIPWAY_AGENTS_FILE: "${name.slice(0, 100)}" is not ${NAME_RULE}.`);
    programs.set(name, program);
  }
  return Object.fromEntries(programs);
}

function parseAcpCommands(text: string): Map<string, AgentProgram> {
  const entries = text
    .split(/[;\n]/)
    .map((entry) => entry.trim())
    .filter((entry) => entry !== "");
  const programs = new Map<string, AgentProgram>();
  for (const entry of entries) {
    const [, name = "", command = ""] = ENTRY.exec(entry) ?? [];
    if (!isFree(programs, name))
      throw new SlipwayError(
        "config_invalid",
        `SLIPWAY_ACP_COMMANDS: "${entry.slice(0, 100)}" is not name=command with ${NAME_RULE}.`,
      );
    programs.set(name, { protocol: "acp", command: command.trim() });
  }
  return programs;
}

const isFree = (programs: ReadonlyMap<string, AgentProgram>, name: string): boolean =>
  NAME.test(name) && !OWN_AGENTS.includes(name) && !programs.has(name);

function readFile(file: string): Record<string, AgentProgram> {
  try {
    return z.record(z.string(), agentProgramSchema).parse(JSON.parse(readFileSync(file, "utf8")));
  } catch (error) {
    const why = error instanceof z.ZodError ? describe(error) : errorMessage(error);
    throw new SlipwayError(
      "config_invalid",
      `SLIPWAY_AGENTS_FILE names ${file}, which is not a list of agents: ${why.slice(0, 300)}`,
    );
  }
}

const describe = ({ issues }: z.ZodError): string =>
  issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("; ");
