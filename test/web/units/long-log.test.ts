/** A long log: what a page holds of it, and how the rest comes back. */
import { describe, expect, it } from "vitest";
import type { WireEvent } from "../../../src/core/protocol/events.ts";
import { ConversationFold } from "../../../web/src/lib/log/conversation.ts";
import { toSections } from "../../../web/src/lib/log/sections.ts";
import { createRandom, SEED, sized } from "../../support/random.ts";
import { events, foldAll, textOf, tool, type Part } from "./log-events.ts";

describe("a long log", () => {
  /** Events of a log beside those of provisioning, which have few blocks. */
  const LENGTH = 4_000;
  const WORLDS = sized(3, 20);

  /** Attempts with steps, tools side by side that end in any order, questions and texts. */
  function generate(random: () => number): WireEvent[] {
    const parts: Part[] = [{ type: "task.submitted", from: null, to: "queued" }];
    const open: string[] = [];
    let attempt = 0;
    let provisioning = 0;
    const begin = (): void => {
      const before = parts.length;
      attempt += 1;
      open.length = 0;
      parts.push({ type: "task.state", from: "retrying", to: "provisioning", attempt });
      const within = (type: "task.step" | "notice" | "tool.started" | "tool.finished", data: object): void =>
        void parts.push({ type, from: "provisioning", to: "provisioning", attempt, data: { ...data } });
      const id = `s${attempt}`;
      for (const name of ["clone", "setup"]) {
        within("task.step", { name, status: "started", detail: "" });
        for (let i = 0; i < 300; i++) within("notice", { level: "info", code: `step.${name}`, text: `${i} %` });
        within("tool.started", { id, name: "setup", input: { command: "npm ci" } });
        within("tool.finished", { id, name: "setup", output: "o", exitCode: 0, ms: 5, truncated: false });
        within("task.step", { name, status: "ended", detail: "" });
      }
      parts.push({ type: "task.state", from: "provisioning", to: "running", attempt });
      provisioning += parts.length - before;
    };
    begin();
    while (parts.length - provisioning < LENGTH) {
      const n = parts.length;
      const dice = random();
      if (dice < 0.002) {
        parts.push({
          type: "task.state",
          to: "retrying",
          data: { reason: "failed", code: "worker_lost", detail: null },
        });
        begin();
      } else if (dice < 0.01) {
        parts.push({ type: "question", data: { id: `q${n}`, question: "Which?", options: [] } });
        parts.push(textOf(`meanwhile ${n}`), { type: "answer", data: { questionId: `q${n}`, text: "a" } });
      } else if (dice < 0.015) {
        const content = [{ type: "text", text: `steer ${n}` }];
        parts.push({ type: "message", data: { role: "user", id: `m${n}`, content } }, textOf(`meanwhile ${n}`));
        if (random() < 0.8) parts.push({ type: "message.status", data: { id: `m${n}`, status: "delivered" } });
        parts.push({ type: "todo", data: { items: [{ text: `todo ${n}`, status: "pending" }] } });
      } else if (dice < 0.3) parts.push(textOf(`text ${n}`));
      else if (open.length < 4 && dice < 0.65) {
        open.push(`t${n}`);
        parts.push({ type: "tool.started", data: { id: `t${n}`, name: "bash", input: {} } });
      } else if (open.length > 0) {
        const [id] = open.splice(Math.floor(random() * open.length), 1);
        parts.push({ type: "tool.finished", data: { id, output: `of ${id}`, exitCode: 0, ms: 5, truncated: false } });
      }
    }
    return events(parts);
  }

  /** As the server has it, but for the tools that run. */
  const isOutline = ({ type, from, to }: WireEvent): boolean =>
    from !== to || ["message.status", "todo"].includes(type);

  const addAll = (fold: ConversationFold, log: readonly WireEvent[]): void => {
    for (const event of log) fold.add(event);
  };

  it("[P15] the page holds its begin and its end, and everything else comes back as it was", () => {
    for (let world = 0; world < WORLDS; world++) {
      const log = generate(createRandom(SEED + world));
      const whole = new ConversationFold();
      addAll(whole, log);
      const fold = new ConversationFold();
      let most = 0;
      for (const event of log) {
        fold.add(event);
        fold.trim();
        if (event.seq % 100 === 0) most = Math.max(most, fold.get().blocks.length);
      }
      const { blocks, left, head } = fold.get();
      const all = whole.get().blocks;
      expect(most).toBeLessThan(1_200);
      expect(left).toBeGreaterThan(0);
      expect(blocks.slice(0, head)).toEqual(all.slice(0, head));
      for (let pages = 0; fold.missing !== null; pages++) {
        expect(pages).toBeLessThan(100);
        const until = fold.missing;
        fold.restore(log.filter(({ seq }) => seq < until).slice(-700));
      }
      expect(fold.get()).toEqual(whole.get());
    }
  });

  describe("[P15] the steps of an attempt come back wherever a page begins among them", () => {
    const texts = (name: string, count: number): Part[] =>
      Array.from({ length: count }, (_, i) => textOf(`${name} ${i}`));
    const step = (name: string, status: string): Part => ({
      type: "task.step",
      from: "provisioning",
      to: "provisioning",
      data: { name, status, detail: "" },
    });
    const attempt: readonly Part[] = [
      { type: "task.state", from: "queued", to: "provisioning", data: { reason: "claimed" } },
      ...["clone", "setup"].flatMap((name) => [step(name, "started"), step(name, "ended")]),
      { type: "task.state", from: "provisioning", to: "running", data: { reason: "ready" } },
    ];
    const submitted: Part = { type: "task.submitted", from: null, to: "queued" };
    const BEFORE = 300;
    const middle = events([
      submitted,
      ...texts("before", BEFORE),
      ...attempt.map((part) => ({ ...part, attempt: 2 })),
      ...texts("after", 2_000),
    ]);
    const start = events([submitted, ...attempt, ...texts("after", 2_000)]);

    function restore(fold: ConversationFold, log: readonly WireEvent[], first: number): void {
      for (const from of [first, 1]) {
        const until = fold.missing;
        if (until !== null) fold.restore(log.filter(({ seq }) => seq >= from && seq < until));
      }
    }

    const around = Array.from({ length: attempt.length + 3 }, (_, i) => i + 1);

    it.each(around)("%i events after the begin of a later attempt", (n) => {
      const whole = new ConversationFold();
      addAll(whole, middle);
      const fold = new ConversationFold();
      addAll(fold, middle);
      fold.trim();
      restore(fold, middle, BEFORE + n);
      expect(fold.get()).toEqual(whole.get());
    });

    it.each(around)("at %i, whatever the page held of the begin", (first) => {
      const whole = new ConversationFold();
      addAll(whole, start);
      for (const held of around) {
        const fold = new ConversationFold();
        fold.open(
          start.filter((event) => event.seq <= held || isOutline(event)),
          start.slice(-500),
        );
        restore(fold, start, first);
        expect([held, fold.get().blocks]).toEqual([held, whole.get().blocks]);
      }
    });
  });

  it("[P15] opened with its ends it is the same beside the conversation, and the rest comes back as it was", () => {
    for (let world = 0; world < WORLDS; world++) {
      const random = createRandom(SEED + world);
      const log = generate(random);
      const whole = new ConversationFold();
      for (const event of log) whole.add(event);
      const { blocks: all, ...beside } = whole.get();
      for (const first of [2, 150, 190, 202, 1_000 + Math.floor(random() * 3_500), log.length - 3]) {
        const headTo = Math.floor(random() * 200);
        const begin = log.filter((event) => event.seq <= headTo || isOutline(event));
        const fold = new ConversationFold();
        const splitAt = first + Math.floor((log.length - first) / 2);
        fold.open(
          begin.filter(({ seq }) => seq < splitAt),
          log.filter(({ seq }) => seq >= first && seq < splitAt),
        );
        for (const event of log.slice(splitAt - 1)) {
          fold.add(event);
          fold.trim();
        }
        const { blocks, head, left, ...rest } = fold.get();
        expect({ ...rest, statuses: null }).toEqual({ ...beside, head: undefined, left: undefined, statuses: null });
        const known = new Map(all.map((block) => [block.key, block]));
        for (const block of blocks) expect(block).toEqual(known.get(block.key));
        expect(blocks.slice(0, head).map(({ key }) => key)).toEqual(all.slice(0, head).map(({ key }) => key));
        if (left > 0) expect(head).toBeLessThanOrEqual(100);
        for (let pages = 0; fold.missing !== null; pages++) {
          expect(pages).toBeLessThan(100);
          const until = fold.missing;
          fold.restore(log.filter(({ seq }) => seq < until).slice(-700));
        }
        expect(fold.get().blocks).toEqual(all);
        expect(fold.get().statuses).toEqual(beside.statuses);
      }
    }
  });

  it("[P15] what is open stays, however long it takes, and ends in its place", () => {
    const [slow, ...others] = events([
      { type: "tool.started", data: { id: "slow", name: "bash", input: {} } },
      ...Array.from({ length: 200 }, (_, i) => textOf(`before ${i}`)),
      { type: "tool.started", data: { id: "late", name: "bash", input: {} } },
      ...Array.from({ length: 3_000 }, (_, i) => textOf(`after ${i}`)),
      { type: "tool.finished", data: { id: "slow", output: "s", exitCode: 0, ms: 5, truncated: false } },
      { type: "tool.finished", data: { id: "late", output: "l", exitCode: 0, ms: 5, truncated: false } },
    ]);
    const fold = new ConversationFold();
    for (const event of [slow!, ...others]) {
      fold.add(event);
      fold.trim();
    }
    const { blocks, left } = fold.get();
    expect(left).toBeGreaterThan(1_000);
    const tools = blocks.filter(({ kind }) => kind === "tool");
    expect(tools).toMatchObject([{ result: { output: "s" } }, { result: { output: "l" } }]);
  });

  it("[P10] [P15] the groups of work that stay are the same after others are left out", () => {
    const fold = new ConversationFold();
    const readGroups = (): string[] => {
      const { blocks, head } = fold.get();
      return toSections(blocks.slice(head)).map(({ key }) => key);
    };
    let trims = 0;
    for (const event of events(Array.from({ length: 2_050 }, (_, i) => tool(String(i))).flat())) {
      fold.add(event);
      const before = readGroups();
      if (!fold.trim()) continue;
      const after = readGroups();
      expect(after.length).toBeLessThan(before.length);
      expect(after).toEqual(before.slice(-after.length));
      trims += 1;
    }
    expect(trims).toBeGreaterThan(1);
  });

  it("a group of work is at most 100 rows, so that a list of groups is drawn in parts", () => {
    const { blocks } = foldAll(Array.from({ length: 250 }, (_, i) => tool(String(i))).flat());
    expect(toSections(blocks).map((section) => (section.kind === "work" ? section.tools : 0))).toEqual([100, 100, 50]);
  });
});
