/**
 * What a setup made, as a tar archive: files of the checkout that git does not know, and the home
 * folder. Names are relative to the folder that both are in.
 */
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import type { Readable } from "node:stream";
import { signalGroup, startProcess, runProcessGroup } from "../../../src/core/lib/runtime/process-group.ts";
import { SETUP_ARCHIVE_MS } from "../../../src/core/protocol/worker.ts";
import { git } from "../git.ts";

export interface ArchiveFolders {
  readonly root: string;
  readonly home: string;
  /** The worker's own, in one of them or elsewhere; never part of the archive. */
  readonly stateDir: string;
}

/** Copies of what was downloaded, below the home folder. What they were for is in its place. */
const DOWNLOADS = [".npm/_cacache", ".npm/_logs", ".cache/pip", ".cache/yarn", ".cache/node-gyp"];
const OUTPUT_BYTES = 64 * 1_024;

export class SetupArchive {
  readonly #folders: ArchiveFolders;
  /** The folder that contains the others. */
  readonly #parent: string;

  constructor(folders: ArchiveFolders) {
    this.#folders = folders;
    this.#parent = findParent(folders.root, folders.home);
  }

  /** The first file of the repository that is not as it was; null = all are. */
  async changedFile(signal: AbortSignal): Promise<string | null> {
    const { root } = this.#folders;
    const list = await git(["diff", "--name-only", "--no-ext-diff", "--no-textconv", "-z", "HEAD"], {
      cwd: root,
      signal,
    });
    return list.split("\0")[0] || null;
  }

  /** The archive in pieces; throws at its end unless it is whole. */
  async *pack(signal: AbortSignal): AsyncGenerator<Buffer> {
    const names = [...(await this.#listMade(signal)), ...this.#listHome().map((name) => this.#toName(name))];
    const skipped = DOWNLOADS.map((path) => `--exclude=${this.#toName(join(this.#folders.home, path))}`);
    const args = ["-c", "-f", "-", "-C", this.#parent, "--anchored", "--no-wildcards", ...skipped];
    const child = await startProcess("tar", [...args, "--null", "-T", "-"], {
      env: closedEnvironment(),
      detached: true,
      stdio: ["pipe", "pipe", "ignore"],
    });
    const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
    const stop = (): void => signalGroup(child.pid, "SIGKILL");
    signal.addEventListener("abort", stop, { once: true });
    try {
      child.stdin.on("error", () => undefined).end(names.map((name) => `${name}\0`).join(""));
      for await (const chunk of child.stdout as AsyncIterable<Buffer>) yield chunk;
      const code = await ended;
      signal.throwIfAborted();
      if (code !== 0) throw new Error(`tar ended with ${code}`);
    } finally {
      signal.removeEventListener("abort", stop);
      stop();
    }
  }

  /**
   * Writes the files of an archive that are not there: what the commit has stays. Rejects unless
   * all of it is there.
   */
  async unpack(content: Readable, signal: AbortSignal): Promise<void> {
    let broken: Error | null = null;
    content.on("error", (error: Error) => (broken = error));
    mkdirSync(this.#folders.home, { recursive: true });
    const args = ["-x", "-p", "-f", "-", "-C", this.#parent, "--no-same-owner", "--skip-old-files"];
    const { stopped, exitCode, stderr } = await runProcessGroup("tar", args, {
      env: closedEnvironment(),
      input: content,
      signal,
      maxStdoutBytes: OUTPUT_BYTES,
      maxStderrChars: 2_000,
      timeout: { kind: "total", ms: SETUP_ARCHIVE_MS },
      graceMs: 0,
    });
    signal.throwIfAborted();
    if (broken !== null) throw broken as Error;
    if (stopped !== null || exitCode !== 0) throw new Error(`tar ended with ${stopped ?? exitCode}: ${stderr}`);
  }

  /** Removes what a failed `unpack` has left. */
  async clear(signal: AbortSignal): Promise<void> {
    const { root, stateDir } = this.#folders;
    const own = relative(root, stateDir);
    const spared = own.startsWith("..") ? ".git" : own;
    await git(["clean", "--quiet", "-ffdx", "-e", `/${spared}`], { cwd: root, signal });
    for (const path of this.#listHome()) rmSync(path, { recursive: true, force: true });
  }

  /** Paths in the checkout that git does not know, ignored ones included. */
  async #listMade(signal: AbortSignal): Promise<string[]> {
    const { root, stateDir } = this.#folders;
    const list = await git(["ls-files", "--others", "--directory", "-z"], { cwd: root, signal });
    const paths = list.split("\0").filter((path) => path !== "");
    return paths
      .map((path) => join(root, path).replace(/\/$/, ""))
      .filter((path) => path !== stateDir && !stateDir.startsWith(`${path}/`))
      .map((path) => this.#toName(path));
  }

  /** What is in the home folder; what contains the worker's own files is left out as a whole. */
  #listHome(): string[] {
    const { root, home, stateDir } = this.#folders;
    const holds = (path: string, inner: string): boolean => inner === path || inner.startsWith(`${path}/`);
    if (holds(root, home)) return [];
    return list(home).filter((path) => !holds(path, stateDir) && !holds(path, root));
  }

  #toName(path: string): string {
    return relative(this.#parent, path);
  }
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir).map((name) => join(dir, name));
  } catch {
    return [];
  }
}

function findParent(a: string, b: string): string {
  let parent = dirname(a);
  while (parent !== "/" && !b.startsWith(`${parent}/`)) parent = dirname(parent);
  return parent;
}

const closedEnvironment = (): NodeJS.ProcessEnv => ({ PATH: process.env["PATH"], LC_ALL: "C" });
