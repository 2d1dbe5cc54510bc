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

/**
 * Runs one tool. Rejects only with the signal's reason; what the tool itself could not do is in the
 * result.
 */
export interface ToolRunner {
  run(name: string, input: ToolInput, signal: AbortSignal): Promise<ToolResult>;
  /** Ends everything that the tools have left running. Idempotent. */
  close(): Promise<void>;
}

/** A tool as a model is told about it. */
export interface ToolSchema {
  readonly name: string;
  readonly description: string;
  /** JSON schema of an object. */
  readonly inputSchema: Readonly<Record<string, unknown>>;
}

export function requireText(input: ToolInput, key: string): string {
  const value = input[key];
  if (typeof value !== "string") throw new ToolError(`"${key}" must be a text.`);
  return value;
}

/** An optional whole number of at least 1. */
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

/** An optional yes or no; absent = no. */
export function optionalFlag(input: ToolInput, key: string): boolean {
  const value = input[key] ?? false;
  if (typeof value !== "boolean") throw new ToolError(`"${key}" must be true or false.`);
  return value;
}

export function optionalChoice<T extends string>(input: ToolInput, key: string, values: readonly T[]): T | null {
  const value = optionalText(input, key);
  if (value === null) return null;
  const known = values.find((one) => one === value);
  if (known === undefined) throw new ToolError(`"${key}" must be one of ${values.join(", ")}.`);
  return known;
}
