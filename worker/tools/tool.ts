/** What a tool is: a name, and a function from an input to words for the agent. */

export interface ToolResult {
  readonly output: string;
  /** Of commands; file tools say 0, or 1 when they refused. Null: ended by a signal or a limit. */
  readonly exitCode: number | null;
  readonly truncated: boolean;
}

export type ToolInput = Readonly<Record<string, unknown>>;

/** A tool's refusal in words that say what to do instead. */
export class ToolError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "ToolError";
  }
}

/** Runs one tool. Rejects only with the signal's reason; what the tool itself could not do is in the result. */
export interface ToolRunner {
  run(name: string, input: ToolInput, signal: AbortSignal): Promise<ToolResult>;
}

export function textOf(input: ToolInput, key: string): string {
  const value = input[key];
  if (typeof value !== "string") throw new ToolError(`"${key}" must be a text.`);
  return value;
}

/** An optional whole number of at least 1. */
export function countOf(input: ToolInput, key: string): number | null {
  const value = input[key];
  if (value === undefined || value === null) return null;
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1)
    throw new ToolError(`"${key}" must be a whole number of at least 1.`);
  return value;
}
