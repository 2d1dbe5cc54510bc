/**
 * Tasks that emit while a page shows them. Their agent is a program that the server knows by its
 * settings; it emits as fast as it can, in parts that begin when the bench says so.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Page } from "playwright-core";

export interface Streaming {
  readonly events: number;
  readonly longestMs: number;
  readonly shift: number;
}

export interface Hour {
  readonly events: number;
  /** Bytes of the page's heap after a collection: at a quarter, the half and the whole. */
  readonly heaps: readonly number[];
}

/** An agent that emits `parts` times three events: a text, a tool and its output. */
interface Talker {
  readonly name: string;
  readonly parts: number;
  readonly times: number;
}

const BURST: Talker = { name: "burst", parts: 700, times: 1 };
/** Five events a second for an hour. */
const HOUR: Talker = { name: "hour", parts: 1_500, times: 4 };
const OUTPUT_BYTES = 400;
const LIMIT_MS = 600_000;

const program = ({ parts, times, name }: Talker, gates: string): string => `i=0
pad=$(head -c ${OUTPUT_BYTES} /dev/zero | tr '\\0' x)
for time in $(seq ${times}); do
  until [ -e ${gates}/${name}-$time ]; do sleep 0.1; done
  for n in $(seq ${parts}); do
    i=$((i + 1))
    printf '{"type":"assistant","message":{"content":[{"type":"text","text":"Part %d of the work."},{"type":"tool_use","id":"t%d","name":"Bash","input":{"command":"npm test"}}]}}\\n' $i $i
    printf '{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t%d","content":"%d %s"}]}}\\n' $i $i "$pad"
  done
done
until [ -e ${gates}/${name}-end ]; do sleep 0.1; done`;

export class Talkers {
  readonly #gates: string;
  /** For SLIPWAY_AGENTS_FILE. */
  readonly file: string;

  constructor(dir: string) {
    this.#gates = join(dir, "gates");
    this.file = join(dir, "agents.json");
    mkdirSync(this.#gates, { recursive: true });
    const agents = [BURST, HOUR].map((talker) => [
      talker.name,
      { protocol: "exec", output: "stream-json", command: program(talker, this.#gates) },
    ]);
    writeFileSync(this.file, JSON.stringify(Object.fromEntries(agents)));
  }

  #open(name: string): void {
    writeFileSync(join(this.#gates, name), "");
  }

  /** @param page shows a task of the agent `burst`. */
  async burst(page: Page): Promise<Streaming> {
    await page.getByLabel("Message").waitFor({ timeout: LIMIT_MS });
    await page.evaluate("bench.longest = 0; bench.shift = 0");
    this.#open(`${BURST.name}-1`);
    await followTo(page, BURST.parts);
    const longestMs = await page.evaluate<number>("bench.longest");
    const shift = await page.evaluate<number>("bench.shift");
    this.#open(`${BURST.name}-end`);
    return { events: BURST.parts * 3, longestMs, shift };
  }

  /** @param page shows a task of the agent `hour`. */
  async hour(page: Page): Promise<Hour> {
    const session = await page.context().newCDPSession(page);
    await page.getByLabel("Message").waitFor({ timeout: LIMIT_MS });
    const heaps: number[] = [];
    for (let time = 1; time <= HOUR.times; time++) {
      this.#open(`${HOUR.name}-${time}`);
      await followTo(page, time * HOUR.parts);
      await session.send("HeapProfiler.collectGarbage");
      const { usedSize } = await session.send("Runtime.getHeapUsage");
      if (time !== 3) heaps.push(usedSize);
    }
    this.#open(`${HOUR.name}-end`);
    return { events: HOUR.parts * HOUR.times * 3, heaps };
  }
}

/** Follows the end of the conversation until it shows the part. */
async function followTo(page: Page, part: number): Promise<void> {
  const look = `(() => {
    if (innerHeight + scrollY < document.documentElement.scrollHeight - 1)
      scrollTo(0, document.documentElement.scrollHeight);
    return [...document.querySelectorAll(".talk-item")].at(-2)?.textContent?.includes("Part ${part} of") === true;
  })()`;
  // Not `waitForFunction`, whose evaluation the page's policy forbids.
  for (const end = Date.now() + LIMIT_MS; ;) {
    if (await page.evaluate<boolean>(look)) return;
    if (Date.now() > end) throw new Error(`part ${part} was never shown`);
    await sleep(200);
  }
}
