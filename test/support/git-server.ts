/** Types for scripts/git-server.mjs, a real git server over HTTP, and a folder for it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
// @ts-expect-error plain JavaScript, so that the demo can run it as it is
import { startGitServer as start } from "../../scripts/git-server.mjs";

export interface GitServer {
  readonly url: string;
  /** `127.0.0.1:port`. */
  readonly host: string;
  readonly root: string;
  readonly requests: {
    readonly method: string;
    readonly path: string;
    readonly authorization: string | null;
    readonly sent: number;
  }[];
  createRepo(name: string, files?: Readonly<Record<string, string>>): { url: string; path: string; sha: string };
  commit(name: string, branch: string, files: Readonly<Record<string, string>>, message?: string): string;
  /** A commit on top of the branch. */
  commitOn(name: string, branch: string, files: Readonly<Record<string, string>>, message?: string): string;
  git(name: string, ...args: string[]): string;
  hook(name: string, hook: string, script: string): void;
  refuse(
    name: string,
    refusal: {
      status?: number;
      text?: string;
      headers?: Readonly<Record<string, string>>;
      hang?: boolean;
      on?: "fetch" | "push";
    } | null,
  ): void;
  /** Sends every answer at this rate, or cuts it after a number of bytes; null ends that. */
  shape(name: string, shape: { bytesPerSecond?: number; cutAfter?: number } | null): void;
  close(): Promise<void>;
}

export interface GitServerOptions {
  readonly auth?: { readonly username: string; readonly password: string; readonly readOnly?: boolean };
}

export async function startGitServer(options: GitServerOptions = {}): Promise<GitServer> {
  const root = mkdtempSync(join(tmpdir(), "slipway-git-"));
  const server = (await start({ root, ...options })) as GitServer;
  return {
    ...server,
    async close() {
      await server.close();
      rmSync(root, { recursive: true, force: true });
    },
  };
}
