/** Agents that are programs in the worker's image, as an operator declares them. */
import { z } from "zod";

const command = z.string().min(1).max(4_000);
/** A path below the program's home directory. */
const homePath = z
  .string()
  .max(200)
  .regex(
    /^(?!\/)(?!.*(?:^|\/)\.\.?(?:\/|$))[^\0]+$/,
    "must be a path below the home directory, such as .claude/projects",
  );

/** `acp`: speaks version 1 of the Agent Client Protocol on its standard input and output. */
const acpProgramSchema = z.strictObject({
  protocol: z.literal("acp"),
  /** bash runs it in the checkout. */
  command,
  /** The program's own mode for its sessions; absent = the one that asks for no permissions. */
  mode: z.string().min(1).max(100).optional(),
  /**
   * Where the program keeps its conversations: a later attempt gets these folders back. Absent =
   * those of known programs; none = nothing is kept.
   */
  state: z.array(homePath).max(20).optional(),
});

/** `exec`: any command line; it runs once per prompt, and its output is shown as messages. */
const execProgramSchema = z.strictObject({
  protocol: z.literal("exec"),
  /**
   * bash runs it in the checkout. The prompt is in `$PROMPT`, and in the file `$PROMPT_FILE`; a
   * command that names neither reads it from its standard input.
   */
  command,
  /** `stream-json`: lines of JSON as `claude -p --output-format stream-json` writes them. */
  output: z.enum(["text", "stream-json"]).optional(),
});

export const agentProgramSchema = z.discriminatedUnion("protocol", [acpProgramSchema, execProgramSchema]);
export type AgentProgram = z.infer<typeof agentProgramSchema>;
export type ExecProgram = z.infer<typeof execProgramSchema>;
/** By the name that a task requests. */
export type AgentPrograms = Readonly<Record<string, AgentProgram>>;
