/**
 * A task that emits thousands of events while it is watched, in a real browser: nothing moves, the
 * page does not grow, and what it does not hold comes back.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CDPSession } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeWithBrowser } from "../../support/browser/browser.ts";
import { openWebRig, type WebRig } from "../../support/browser/rig.ts";

/** Each part is three events: a text, a tool and its output. */
const PARTS = 300;
const PHASES = 6;
const OUTPUT = 4_000;

/** A program that emits the parts of a phase when the file of the phase is there. */
const program = (gates: string): string => `i=0
pad=$(head -c ${OUTPUT} /dev/zero | tr '\\0' x)
for phase in $(seq ${PHASES}); do
  until [ -e ${gates}/$phase ]; do sleep 0.1; done
  for n in $(seq ${PARTS}); do
    i=$((i + 1))
    printf '{"type":"assistant","message":{"content":[{"type":"text","text":"Part %d."},{"type":"tool_use","id":"t%d","name":"Bash","input":{"command":"npm test"}}]}}\\n' $i $i
    printf '{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t%d","content":"%d %s"}]}}\\n' $i $i "$pad"
  done
done
until [ -e ${gates}/end ]; do sleep 0.1; done`;

/** @returns whether it was there already. */
const SCROLL_TO_END = `(() => {
  const wasThere = scrollY > 0 && innerHeight + scrollY >= document.documentElement.scrollHeight - 1;
  scrollTo(0, document.documentElement.scrollHeight);
  return wasThere;
})()`;

/** What moved, and from where to where. */
const WATCH_SHIFTS = `window.shifts = [];
  const box = ({ top, bottom }) => Math.round(top) + "-" + Math.round(bottom);
  new PerformanceObserver((list) => {
    for (const { value, hadRecentInput, sources } of list.getEntries()) {
      const moved = sources.map(({ node, previousRect, currentRect }) =>
        (node?.className || node?.nodeName) + " " + box(previousRect) + " to " + box(currentRect));
      if (!hadRecentInput) shifts.push(value.toFixed(3) + ": " + moved.join(", "));
    }
  }).observe({ type: "layout-shift" });`;

describeWithBrowser("a long log", () => {
  let rig: WebRig;
  let dir: string;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "slipway-long-"));
    mkdirSync(join(dir, "gates"));
    const file = join(dir, "agents.json");
    const talker = { protocol: "exec", output: "stream-json", command: program(join(dir, "gates")) };
    writeFileSync(file, JSON.stringify({ talker }));
    rig = await openWebRig({ SLIPWAY_AGENTS_FILE: file });
  });
  afterAll(async () => {
    await rig.close();
    rmSync(dir, { recursive: true, force: true });
  });

  async function readHeap(session: CDPSession): Promise<number> {
    await session.send("HeapProfiler.collectGarbage");
    await session.send("HeapProfiler.collectGarbage");
    return (await session.send("Runtime.getHeapUsage")).usedSize;
  }

  /** On another device, that has nothing of the log. */
  async function openLate(id: string): Promise<void> {
    const { page, errors } = await rig.open();
    await rig.logIn(page);
    const pages: Promise<number>[] = [];
    page.on("response", (response) => {
      if (response.url().includes("/events?"))
        pages.push(response.json().then(({ items }: { items: unknown[] }) => items.length));
    });
    await page.goto(`${rig.server().url}/tasks/${id}`);
    await page.getByText("Part 1.", { exact: true }).waitFor();
    await page.getByLabel(/^Connection: in sync/).waitFor();
    const read = await Promise.all(pages);
    expect(read.reduce((sum, items) => sum + items, 0)).toBeLessThan(1_300);
    await expect.poll(() => page.evaluate<boolean>(SCROLL_TO_END)).toBe(true);
    await page.getByText(`Part ${PHASES * PARTS}.`, { exact: true }).waitFor();
    const earlier = page.getByRole("button", { name: /^Show earlier/ });
    const left = Number((await earlier.textContent())?.replaceAll(/\D/g, ""));
    expect(left).toBeGreaterThan(PHASES * PARTS * 3 - 1_300);
    // What is brought back stands between the rows that were there.
    await page.evaluate(WATCH_SHIFTS);
    await earlier.scrollIntoViewIfNeeded();
    await earlier.click();
    await expect.poll(async () => Number((await earlier.textContent())?.replaceAll(/\D/g, ""))).toBe(left - 1_000);
    expect(await page.evaluate<string[]>("shifts")).toEqual([]);
    expect(errors).toEqual([]);
    await Promise.all(pages);
    await page.context().close();
  }

  it("[P10] [P15] watched for 5,400 events: nothing moves, the page does not grow, and what it left out comes back", async () => {
    const answer = await rig.call("POST", "/v1/tasks", { repo: rig.repo, prompt: "Talk much.", agent: "talker" });
    expect(answer.status).toBe(201);
    const { id } = answer.body as { id: string };
    await rig.until(id, (task) => task.state === "running", "running");
    const { page, errors } = await rig.open();
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${id}`);
    const session = await page.context().newCDPSession(page);
    const said = (part: number) => page.getByText(`Part ${part}.`, { exact: true });
    let heap = 0;
    for (let phase = 1; phase <= PHASES; phase++) {
      writeFileSync(join(dir, "gates", String(phase)), "");
      const seq = async (): Promise<number> => (await rig.server().task(id)).seq;
      await expect.poll(seq).toBeGreaterThan(phase * PARTS * 3);
      if (phase === 1) {
        await page.getByLabel("Message").waitFor();
        await said(1).waitFor();
        await expect.poll(() => page.evaluate<boolean>(SCROLL_TO_END)).toBe(true);
        await said(PARTS).waitFor();
        await page.evaluate(WATCH_SHIFTS);
      }
      await said(phase * PARTS).waitFor();
      if (phase === 2) heap = await readHeap(session);
    }
    // Up to 500 blocks more are there before the next go, and what went is free a second later.
    const streamed = (PHASES - 2) * PARTS * OUTPUT;
    await expect.poll(() => readHeap(session)).toBeLessThan(heap + streamed / 2);
    expect(await page.evaluate<string[]>("shifts")).toEqual([]);
    const earlier = page.getByRole("button", { name: /^Show earlier/ });
    const count = async (): Promise<number> => Number((await earlier.textContent())?.replaceAll(/\D/g, ""));
    const left = await count();
    expect(left).toBeGreaterThan(PARTS);
    await earlier.click();
    await expect.poll(count).toBeLessThan(left);
    await openLate(id);
    expect(errors).toEqual([]);
    writeFileSync(join(dir, "gates", "end"), "");
    await rig.until(id, (task) => task.settledAt !== null, "the end");
  });
});
