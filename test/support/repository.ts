/**
 * Repositories for tests and benches, made with simple-git. No configuration of this machine
 * counts.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { simpleGit, type SimpleGitOptions } from "simple-git";

const ENVIRONMENT = {
  HOME: "/nonexistent",
  LC_ALL: "C",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_AUTHOR_NAME: "T",
  GIT_AUTHOR_EMAIL: "t@example.com",
  GIT_COMMITTER_NAME: "T",
  GIT_COMMITTER_EMAIL: "t@example.com",
};

const UNSAFE: NonNullable<SimpleGitOptions["unsafe"]> = {
  allowUnsafeConfigPaths: true,
  allowUnsafeDiffExternal: true,
  allowUnsafeDiffTextConv: true,
  allowUnsafeFilter: true,
  allowUnsafeFsMonitor: true,
  allowUnsafeGpgProgram: true,
  allowUnsafeHooksPath: true,
  allowUnsafeSshCommand: true,
};

/**
 * Runs one git command in a folder. @returns its output, byte for byte. Rejects with the error
 * output when the command fails, even when it wrote none.
 */
export async function readGit(cwd: string, ...args: string[]): Promise<string> {
  const runner = simpleGit({
    baseDir: cwd,
    allowEnvironment: Object.keys(ENVIRONMENT),
    // Tests write hostile configuration on purpose.
    unsafe: UNSAFE,
    // By default simple-git accepts a failed command that wrote nothing to standard error.
    errors: (error, { exitCode, stdErr }) =>
      error ?? (exitCode === 0 ? undefined : Buffer.concat([...stdErr, Buffer.from(`exit code ${exitCode}`)])),
  });
  return runner.env({ PATH: process.env["PATH"] ?? "", ...ENVIRONMENT }).raw(args);
}

/** The same, without spaces and line breaks at the ends of the output. */
export const git = async (cwd: string, ...args: string[]): Promise<string> => (await readGit(cwd, ...args)).trim();

/** Writes files below a folder, commits everything there, and returns the commit. */
export async function commitFiles(
  dir: string,
  files: Readonly<Record<string, string>>,
  message = "base",
): Promise<string> {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, path)), { recursive: true });
    writeFileSync(join(dir, path), content);
  }
  await git(dir, "add", "-A");
  await git(dir, "commit", "-q", "--allow-empty", "-m", message);
  return git(dir, "rev-parse", "HEAD");
}

/** Creates a repository with one commit on `main`. @returns the commit. */
export async function createRepository(dir: string, files: Readonly<Record<string, string>>): Promise<string> {
  mkdirSync(dir, { recursive: true });
  await git(dir, "init", "-q", "-b", "main");
  return commitFiles(dir, files);
}
