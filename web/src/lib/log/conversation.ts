/**
 * Folds the events of a task into the blocks of its conversation. Pure and incremental: one event
 * changes at most the blocks that it names.
 */
import type { WireEvent, WireEventOf } from "../../../../src/core/protocol/events.ts";
import { GROUP_LIMIT, isOpen, isWork, seqOf, type Block, type Step } from "./block.ts";
import { OutlineFold, type Outline } from "./outline.ts";

export interface Conversation extends Outline {
  readonly blocks: readonly Block[];
  /** How many of the first blocks always stay. */
  readonly head: number;
  /** Events after the head whose blocks are left out until somebody asks for them. */
  readonly left: number;
}

/** Characters of the output of a running tool, and of a step, that are kept. */
const LIVE_LIMIT = 8_000;
/** What the page holds of a long log: this many blocks of its begin, and of its end. */
const HEAD = 100;
const TAIL = 500;
/** Before the number of an attempt, the name of the block of its steps. */
const STEPS = "steps ";

/** The events that are left out: from this seq, up to but not with `to`. */
interface Gap {
  readonly from: number;
  readonly to: number;
}

/** What a later event changes in a block that is left out, by the name of the block. */
interface LateChange {
  readonly seq: number;
  readonly at: number;
  readonly name: string;
  readonly change: (block: Block) => Block;
}

export class ConversationFold {
  #blocks: Block[] = [];
  readonly #outline = new OutlineFold();
  /** Index of the block of each tool call and question, and of the steps of each attempt. */
  readonly #index = new Map<string, number>();
  /** The seq of the last event that changed a block, by its key. */
  readonly #changed = new Map<string, number>();
  #gap: Gap | null = null;
  #head = HEAD;
  #late: LateChange[] = [];
  /** The attempts that have steps. */
  #stepped = new Set<number>();
  /** The next steps without a block begin one: the begin of their attempt was seen. */
  #isBegun = false;
  /** The last attempt whose begin was seen. */
  #begun: number | null = null;
  /** Seq and time of the present event. */
  #now = 0;
  #at = 0;

  /** A snapshot; later events do not change it. */
  get(): Conversation {
    return {
      ...this.#outline.get(),
      blocks: [...this.#blocks],
      head: Math.min(this.#head, this.#blocks.length),
      left: this.#gap === null ? 0 : this.#gap.to - this.#gap.from,
    };
  }

  /**
   * Leaves out what is neither at the begin nor at the end, in large pieces. @param getSlack how
   * many blocks beyond the tail may stay; asked when more than usual are here. @returns false when
   * nothing had to go.
   */
  trim(getSlack = () => TAIL): boolean {
    const blocks = this.#blocks;
    const over = blocks.length - TAIL - this.#head;
    if (over <= TAIL || over <= getSlack()) return false;
    const cut = this.#findCut();
    const next = blocks[cut];
    if (next === undefined) return false;
    const to = seqOf(next);
    const isOut = (block: Block, i: number): boolean =>
      i >= this.#head && i < cut && !isOpen(block) && (this.#changed.get(block.key) ?? 0) < to;
    const first = blocks.find(isOut);
    if (first === undefined) return false;
    this.#gap = { from: Math.min(seqOf(first), this.#gap?.from ?? to), to };
    this.#late = this.#late.filter(({ seq }) => seq >= to);
    this.#arrange(blocks.filter((block, i) => !isOut(block, i)));
    return true;
  }

  /** Where the tail begins: groups of work, which count from their begin, stay as they are. */
  #findCut(): number {
    const cut = this.#blocks.length - TAIL;
    let begin = cut;
    while (begin > this.#head && isWork(this.#blocks[begin]) && isWork(this.#blocks[begin - 1])) begin--;
    return cut - ((cut - begin) % GROUP_LIMIT);
  }

  /** `restore` needs the events before this seq; null = nothing is left out. */
  get missing(): number | null {
    return this.#gap?.to ?? null;
  }

  /**
   * Puts back the end of what is left out. @param events the last ones before `missing`, in order.
   */
  restore(events: readonly WireEvent[]): void {
    const gap = this.#gap;
    const lowest = events[0]?.seq;
    if (gap === null || lowest === undefined) return;
    const page = new ConversationFold();
    for (const event of events) page.add(event);
    const isLast = lowest <= gap.from;
    const later = this.#late.filter((late) => !page.#apply(late));
    // Nothing else is missing, so the begin of an attempt without a block was before this page.
    const orphans = isLast ? [...page.#late.splice(0), ...later].filter(({ name }) => !this.#index.has(name)) : [];
    for (const late of orphans) page.#apply(late, true);
    if (this.#outline.ended >= gap.to) page.#endTools(this.#outline.ended);
    this.#gap = isLast ? null : { from: gap.from, to: lowest };
    this.#late = this.#gap === null ? [] : [...page.#late, ...later];
    this.#insert(page);
  }

  /**
   * The first step of an attempt opens a block: of the one whose begin is here, where these events
   * end between the two. @param isBegun all attempts have begun.
   */
  #apply({ seq, at, name, change }: LateChange, isBegun = false): boolean {
    const attempt = name.startsWith(STEPS) ? Number(name.slice(STEPS.length)) : null;
    if (attempt !== null && (isBegun || attempt === this.#begun)) this.#openSteps(attempt, seq, at);
    if (!this.#index.has(name)) return false;
    this.#now = seq;
    return this.#update(name, change);
  }

  /** The blocks of the page that are not here, between those that are. */
  #insert(page: ConversationFold): void {
    const known = new Set(this.#blocks.map(({ key }) => key));
    const found = page.#blocks.filter(({ key }) => !known.has(key));
    const [head, tail] = [this.#blocks.slice(0, this.#head), this.#blocks.slice(this.#head)];
    this.#arrange([...head, ...[...found, ...tail].toSorted((a, b) => seqOf(a) - seqOf(b))]);
    const places = new Map(this.#blocks.map(({ key }, i) => [key, i]));
    for (const attempt of page.#stepped) this.#stepped.add(attempt);
    this.#outline.addStatuses(page.#outline);
    for (const { key } of found) this.#changed.set(key, page.#changed.get(key) ?? 0);
    for (const [name, i] of page.#index) {
      const place = places.get(page.#blocks[i]?.key ?? "");
      if (place !== undefined && !this.#index.has(name)) this.#index.set(name, place);
    }
  }

  #arrange(next: Block[]): void {
    const places = new Map(next.map((block, i) => [block.key, i]));
    for (const [name, i] of this.#index) {
      const place = places.get(this.#blocks[i]?.key ?? "");
      if (place === undefined) this.#index.delete(name);
      else this.#index.set(name, place);
    }
    for (const key of this.#changed.keys()) if (!places.has(key)) this.#changed.delete(key);
    this.#blocks = next;
  }

  /**
   * Adds output of a tool that runs; never part of the log. @returns false when no such tool runs.
   */
  addLive(toolId: string, output: string): boolean {
    const i = this.#index.get(`tool ${toolId}`);
    const block = i === undefined ? undefined : this.#blocks[i];
    if (i === undefined || block?.kind !== "tool") return false;
    if (block.result === null) this.#blocks[i] = { ...block, live: (block.live + output).slice(-LIVE_LIMIT) };
    return true;
  }

  /**
   * Begins with the ends of a long log. @param begin its first events, and of those before the tail
   * the ones of its outline. @param tail its last events.
   */
  open(begin: readonly WireEvent[], tail: readonly WireEvent[]): void {
    const to = tail[0]?.seq ?? 1;
    const before = begin.filter(({ seq }) => seq < to);
    const head = before.filter(({ seq }, i) => seq === i + 1);
    const isWhole = head.length === to - 1;
    for (const event of before) this.#outline.add(event);
    for (const event of head) this.#tell(event);
    if (!isWhole) {
      const from = this.#cut(head.at(-1));
      this.#gap = { from, to };
      for (const event of before)
        if (event.type === "tool.started" && event.seq >= Math.max(from, this.#outline.ended)) this.#tell(event);
      this.#late = [];
    }
    for (const event of tail) this.add(event);
  }

  /**
   * Keeps the first blocks, up to one that events may change that are not here. @param last the
   * last event that is here. @returns the seq from which on the blocks are left out.
   */
  #cut(last: WireEvent | undefined): number {
    const isPreparing = last?.to === "provisioning";
    const isLeft = (block: Block): boolean =>
      isOpen(block) || (block.kind === "steps" && isPreparing && block.attempt === last.attempt);
    const end = this.#blocks.findIndex((block, i) => i >= HEAD || isLeft(block));
    const first = end < 0 ? undefined : this.#blocks[end];
    if (end >= 0) this.#arrange(this.#blocks.slice(0, end));
    this.#head = this.#blocks.length;
    this.#stepped = new Set(this.#blocks.flatMap((block) => (block.kind === "steps" ? [block.attempt] : [])));
    this.#isBegun = false;
    return first === undefined ? (last?.seq ?? 0) + 1 : seqOf(first);
  }

  add(event: WireEvent): void {
    this.#outline.add(event);
    this.#tell(event);
  }

  /** What the conversation says. */
  #tell(event: WireEvent): void {
    const at = Date.parse(event.at);
    this.#now = event.seq;
    this.#at = at;
    if (event.seq === 1) this.#isBegun = true;
    switch (event.type) {
      case "task.state":
        return this.#addState(event, at);
      case "task.step":
        return this.#addStep(event, at);
      case "message":
        return this.#addMessage(event, at);
      case "tool.started": {
        const { id, name, input } = event.data;
        this.#open(`tool ${id}`, { kind: "tool", key: String(event.seq), at, name, input, result: null, live: "" });
        if (name === "setup") this.#addToStep(event.attempt, name, `$ ${String(input["command"])}`);
        return;
      }
      case "tool.finished":
        if (event.data.name === "setup") this.#addToStep(event.attempt, "setup", event.data.output);
        return this.#finishTool(event.data);
      default:
        this.#addOther(event, at);
    }
  }

  #addOther(event: WireEvent, at: number): void {
    const key = String(event.seq);
    switch (event.type) {
      case "question": {
        const { id, question } = event.data;
        this.#open(`question ${id}`, { kind: "question", key, at, id, question, answer: null });
        return;
      }
      case "answer": {
        const answer = { text: event.data.text, at, by: event.data.by ?? null };
        this.#update(`question ${event.data.questionId}`, (block) =>
          block.kind === "question" ? { ...block, answer } : block,
        );
        return;
      }
      case "verify": {
        const { command, exitCode, ms, tail } = event.data;
        this.#blocks.push({ kind: "check", key, at, command, exitCode, ms, tail });
        return;
      }
      case "notice":
        this.#addNotice(event, at);
        return;
      case "push": {
        const text = `Pushed ${event.data.branch} at ${event.data.sha.slice(0, 7)}`;
        this.#blocks.push({ kind: "line", key, at, level: "info", text });
        return;
      }
      default:
    }
  }

  #addState(event: WireEventOf<"task.state">, at: number): void {
    const { data, seq } = event;
    if (data.reason === "failed") {
      const code = data.code.replaceAll("_", " ");
      const text = data.detail === null ? code : `${code}: ${data.detail}`;
      this.#blocks.push({ kind: "line", key: String(seq), at, level: "error", text });
    }
    if (event.from !== event.to) this.#endTools(seq);
    if (event.from === event.to || event.to !== "provisioning") return;
    this.#isBegun = true;
    this.#begun = event.attempt;
  }

  /** The block of the steps of an attempt, unless it is there. */
  #openSteps(attempt: number, seq: number, at: number): void {
    if (this.#stepped.has(attempt)) return;
    this.#stepped.add(attempt);
    this.#open(`${STEPS}${attempt}`, { kind: "steps", key: String(seq), at, attempt, steps: [] });
  }

  /** What an event of this seq ends without a result. */
  #endTools(seq: number): void {
    this.#blocks = this.#blocks.map((block) => {
      if (block.kind !== "tool" || block.result !== null) return block;
      this.#changed.set(block.key, seq);
      return { ...block, result: "lost" as const };
    });
  }

  #addStep({ seq, attempt, data }: WireEventOf<"task.step">, at: number): void {
    const key = `${STEPS}${attempt}`;
    if (this.#isBegun) this.#openSteps(attempt, seq, at);
    const { name, status } = data;
    const detail = data.detail === "" ? null : data.detail;
    this.#update(key, (block) => {
      if (block.kind !== "steps") return block;
      const known = block.steps.find((step) => step.name === name);
      const ended = status === "ended";
      const next: Step =
        known === undefined
          ? { name, startedAt: at, endedAt: ended ? at : null, detail, log: "" }
          : { ...known, endedAt: ended ? at : known.endedAt, detail: detail ?? known.detail };
      const steps =
        known === undefined ? [...block.steps, next] : block.steps.map((step) => (step === known ? next : step));
      return { ...block, steps };
    });
  }

  #addNotice({ seq, attempt, data }: WireEventOf<"notice">, at: number): void {
    const { code, level, text, commits = [], commitCount: count = commits.length } = data;
    // A sign of life: the row of the tool shows its time already.
    if (code === "working" || (code.startsWith("step.") && this.#addToStep(attempt, code.slice(5), text))) return;
    const key = String(seq);
    if (commits.length === 0) this.#blocks.push({ kind: "line", key, at, level, text });
    else this.#blocks.push({ kind: "commits", key, at, isRewritten: code === "branch_rewritten", commits, count });
  }

  /** @returns false when the attempt has no such step. */
  #addToStep(attempt: number, name: string, text: string): boolean {
    if (this.#isBegun && !this.#stepped.has(attempt)) return false;
    let isFound = true;
    this.#update(`${STEPS}${attempt}`, (block) => {
      if (block.kind !== "steps") return block;
      isFound = block.steps.some((step) => step.name === name);
      const steps = block.steps.map((step) =>
        step.name === name ? { ...step, log: `${step.log}${text.trimEnd()}\n`.slice(-LIVE_LIMIT) } : step,
      );
      return { ...block, steps };
    });
    return isFound;
  }

  #addMessage({ seq, data }: WireEventOf<"message">, at: number): void {
    const isPerson = data.role === "user";
    const by = data.role === "user" ? (data.by ?? null) : null;
    const attachments = data.content.flatMap((block) => ("mediaType" in block ? [block] : []));
    data.content.forEach((block, i) => {
      const key = `${seq}.${i}`;
      if (block.type === "attachment") return;
      if (isPerson) this.#blocks.push({ kind: "person", key, at, text: block.text, id: data.id, by, attachments });
      else if (block.type === "thinking") this.#blocks.push({ kind: "thought", key, at, text: block.text });
      else if (block.text.trim() !== "") this.#blocks.push({ kind: "text", key, at, text: block.text });
    });
    if (isPerson) this.#outline.addMessage(data.id);
  }

  #finishTool({ id, output, exitCode, ms, truncated }: WireEventOf<"tool.finished">["data"]): void {
    this.#update(`tool ${id}`, (block) =>
      block.kind === "tool" ? { ...block, result: { output, exitCode, ms, truncated } } : block,
    );
  }

  #open(key: string, block: Block): void {
    this.#index.set(key, this.#blocks.length);
    this.#blocks.push(block);
  }

  /** @returns false when there is no such block, which is changed when it comes back. */
  #update(name: string, change: (block: Block) => Block): boolean {
    const i = this.#index.get(name);
    const block = i === undefined ? undefined : this.#blocks[i];
    if (i === undefined || block === undefined) {
      this.#late.push({ seq: this.#now, at: this.#at, name, change });
      return false;
    }
    this.#blocks[i] = change(block);
    this.#changed.set(block.key, this.#now);
    return true;
  }
}
