import { isDiskFullMessage } from "../disk/disk-full.ts";

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

/** The detail of a failure where git found no room on the server's disk. */
export const DISK_FULL = "The server's disk is full.";

/**
 * True when git found no room here. Messages about the remote disk follow `remote:`,
 * `remote unpack failed:` or `remote error:` (which may continue on further lines), or are in a
 * `[remote rejected]`.
 */
export function isLocalDiskFull({ output }: GitError): boolean {
  const [own = ""] = output.split("remote error:", 1);
  return own.split("\n").some((line) => !/\bremote\b/.test(line) && isDiskFullMessage(line));
}
