/** Child processes that run the built store. Tests kill them, or send them lines on stdin. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const built = (path: string): string => pathToFileURL(join(import.meta.dirname, "../../../dist", path)).href;

export interface Child {
  /** The next line of stdout; null when the process has ended. */
  line(): Promise<string | null>;
  send(line: string): void;
  /** Sends SIGKILL and resolves when the process has ended. Idempotent. */
  kill(): Promise<void>;
  /** Resolves when the process has exited or was killed. */
  ended(): Promise<{ code: number | null; signal: NodeJS.Signals | null; stderr: string }>;
}

/**
 * @param body a module body that can use `sqlite` (the store module), `migrate`, `Database`,
 * `print(line)`, `nextLine()` (of stdin) and `args`.
 */
export function runChild(body: string, args: object): Child {
  const script = `
    import Database from ${JSON.stringify(built("src/store/sqlite/driver.js"))};
    import { createInterface } from "node:readline";
    import * as sqlite from ${JSON.stringify(built("src/store/sqlite/store.js"))};
    import { migrate } from ${JSON.stringify(built("src/store/sqlite/migrate.js"))};
    const args = ${JSON.stringify(args)};
    const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
    const nextLine = async () => (await lines.next()).value;
    const print = (line) => process.stdout.write(line + "\\n");
    ${body}
    process.exit(0);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["pipe", "pipe", "pipe"] });
  const end = once(child, "close");
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin.on("error", () => undefined);
  return {
    line: async () => ((await lines.next()).value as string | undefined) ?? null,
    send: (line) => void child.stdin.write(`${line}\n`),
    async kill() {
      child.kill("SIGKILL");
      await end;
    },
    async ended() {
      await end;
      return { code: child.exitCode, signal: child.signalCode, stderr };
    },
  };
}
