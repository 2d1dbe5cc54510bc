/** A git command that failed. The coordinator and the worker both throw it. */
export class GitError extends Error {
  /** What git wrote, bounded by the caller. */
  readonly output: string;

  /** @param message the last line of the output unless given. */
  constructor(output: string, message = output.trim().split("\n").at(-1) ?? "git failed") {
    super(message);
    this.name = "GitError";
    this.output = output;
  }
}
