/** A git command that failed. The coordinator and the worker both throw it. */
export class GitError extends Error {
  /** What git wrote, bounded by the caller. */
  readonly output: string;
  /** Null when git did not end by itself, or the caller does not know the code. */
  readonly exitCode: number | null;

  /** @param message the last line of the output unless given. */
  constructor(
    output: string,
    message = output.trim().split("\n").at(-1) ?? "git failed",
    exitCode: number | null = null,
  ) {
    super(message);
    this.name = "GitError";
    this.output = output;
    this.exitCode = exitCode;
  }
}
