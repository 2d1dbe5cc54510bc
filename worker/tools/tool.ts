/** The contract of a tool: a function from an input to text for the agent, known by a name. */

export interface ToolResult {
  readonly output: string;
  /** Of the command; file tools return 0, or 1 for an error. Null: ended by a signal or a limit. */
  readonly exitCode: number | null;
  readonly truncated: boolean;
}

export type ToolInput = Readonly<Record<string, unknown>>;

/** A tool cannot do what was asked. The message names what the agent can do instead. */
export class ToolError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "ToolError";
  }
}

/** What follows a call while it runs. */
export interface CallWatch {
  /** Aborted when a person interrupts: the call ends as by its time limit, with a result. */
  readonly interrupt?: AbortSignal;
  /**
   * Gets whole lines of a command's output while it runs, of which some may be left out, and how
   * many bytes it has printed.
   */
  readonly onOutput?: (lines: string, bytes: number) => void;
}

export interface ToolRunner {
  /** Rejects only with the signal's reason; the failure of a tool is a result with exit code 1. */
  run(name: string, input: ToolInput, signal: AbortSignal, watch?: CallWatch): Promise<ToolResult>;
  /** Ends everything that the tools started. Idempotent. */
  close(): Promise<void>;
}

/** A tool's definition for a model. */
export interface ToolSchema {
  readonly name: string;
  readonly description: string;
  /** JSON schema of an object. */
  readonly inputSchema: Readonly<Record<string, unknown>>;
}

export function requireText(input: ToolInput, key: string): string {
  const value = input[key];
  if (typeof value !== "string") throw new ToolError(`"${key}" must be a string.`);
  return value;
}

/** An optional whole number of at least 1; null when it is absent. */
export function optionalCount(input: ToolInput, key: string): number | null {
  const value = input[key];
  if (value === undefined || value === null) return null;
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1)
    throw new ToolError(`"${key}" must be a whole number of at least 1.`);
  return value;
}

export function optionalText(input: ToolInput, key: string): string | null {
  const value = input[key];
  return value === undefined || value === null ? null : requireText(input, key);
}

/** An optional boolean; false when it is absent. */
export function optionalFlag(input: ToolInput, key: string): boolean {
  const value = input[key] ?? false;
  if (typeof value !== "boolean") throw new ToolError(`"${key}" must be true or false.`);
  return value;
}

export function optionalChoice<T extends string>(input: ToolInput, key: string, values: readonly T[]): T | null {
  const value = optionalText(input, key);
  if (value === null) return null;
  const known = values.find((candidate) => candidate === value);
  if (known === undefined) throw new ToolError(`"${key}" must be one of ${values.join(", ")}.`);
  return known;
}
