/**
 * Live output: a command in a container prints the time, line by line, first without a pause, then
 * each line after a silence; a person's client on the stream says when each line is there. Beside
 * it the same program, read over a pipe.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createSocketFactory } from "../../../src/cli/connect.ts";
import { SlipwayClient } from "../../../src/client/client.ts";
import { startServer, startUpstream } from "../../server.ts";
import { percentile } from "../../support.ts";

export interface OutputFigures {
  /** Lines printed, and lines that came while the command ran. */
  readonly printed: number;
  readonly seen: number;
  /** From print to the client, ms. */
  readonly p50: number;
  readonly p99: number;
  /** The same of lines after a silence. */
  readonly rare: { readonly p50: number; readonly p99: number };
  /** From print to the end of a pipe, ms. */
  readonly pipeP99: number;
}

const LINES = 1_000;
const PAUSE_MS = 20;
const RARE_LINES = 60;
const SILENCE_MS = 730;
const createProgram = (rare: number): string =>
  `let n = 0; (function print() { const often = n++ < ${LINES}; console.log((often ? "at " : "rare ") + Date.now()); if (n < ${LINES + rare}) setTimeout(print, often ? ${PAUSE_MS} : ${SILENCE_MS}); })()`;
const LIMIT_MS = 180_000;

/** Collects how old each line is when it comes. */
class Ages {
  readonly often: number[] = [];
  readonly rare: number[] = [];
  #rest = "";

  add(text: string): void {
    const now = Date.now();
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      const [, word, printed] = /^(at|rare) (\d{13})$/.exec(line) ?? [];
      if (printed !== undefined) (word === "at" ? this.often : this.rare).push(now - Number(printed));
    }
  }
}

const spread = (ages: readonly number[]) => ({ p50: percentile(ages, 50), p99: percentile(ages, 99) });

export async function outputFigures(): Promise<OutputFigures> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-bench-output-"));
  const upstream = await startUpstream(join(dir, "upstream"));
  const server = await startServer(join(dir, "data"), {
    SLIPWAY_SANDBOX: "docker",
    SLIPWAY_WORKER_TOOLS: "slim",
    SLIPWAY_WARM: "0",
    SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
  });
  const client = new SlipwayClient({ baseUrl: server.url, token: server.token, WebSocket: createSocketFactory() });
  try {
    const script = [
      { bash: `node -e '${createProgram(RARE_LINES)}'` },
      { finish: { title: "Printed", summary: "It printed." } },
    ];
    const { id } = await client.submit({ repo: `${upstream.url}/app.git`, prompt: "Print.", script });
    const ages = new Ages();
    const options = { signal: AbortSignal.timeout(LIMIT_MS), onDelta: ({ text }: { text: string }) => ages.add(text) };
    let isOver = false;
    for await (const event of client.watch(id, options)) isOver ||= event.type === "tool.finished";
    if (!isOver) throw new Error("the command did not run");
    return {
      printed: LINES,
      seen: ages.often.length,
      ...spread(ages.often),
      rare: spread(ages.rare),
      pipeP99: await overPipe(),
    };
  } finally {
    await server.end("SIGTERM");
    upstream.close();
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function overPipe(): Promise<number> {
  const child = spawn(process.execPath, ["-e", createProgram(0)], { stdio: ["ignore", "pipe", "inherit"] });
  const ages = new Ages();
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) ages.add(chunk.toString());
  return percentile(ages.often, 99);
}
