/** The wall clock of a server in its own process: a preloaded module that a file controls. */
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface ServerClock {
  /** For the environment of `startServer`. */
  readonly env: Readonly<Record<string, string>>;
  /** Sets the clock of the server, ms from the real one, within a few ms. */
  set(offsetMs: number): void;
}

export function createServerClock(dir: string): ServerClock {
  const file = join(dir, "clock-offset");
  const set = (offsetMs: number): void => {
    writeFileSync(`${file}.new`, String(Math.round(offsetMs)));
    renameSync(`${file}.new`, file);
  };
  set(0);
  const module = join(dir, "clock.mjs");
  writeFileSync(
    module,
    `import { readFileSync } from "node:fs";
const now = Date.now.bind(Date);
const read = () => Number(readFileSync(${JSON.stringify(file)}, "utf8"));
let offset = read();
setInterval(() => (offset = read()), 5).unref();
Date.now = () => now() + offset;
`,
  );
  return { env: { NODE_OPTIONS: `--import ${module}` }, set };
}
