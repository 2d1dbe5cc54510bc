/**
 * Each place that cuts a text removes secrets first. A secret is planted at every offset around
 * each bound; no piece of 8 characters of it may leave.
 */
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Redactor } from "../../src/core/lib/json/redaction.ts";
import { systemClock } from "../../src/core/lib/runtime/system-clock.ts";
import type { AgentContext } from "../../worker/agents/agent.ts";
import { StreamJsonReader } from "../../worker/agents/exec/stream-json.ts";
import { TextReader } from "../../worker/agents/exec/output.ts";
import { ProgramConversation } from "../../worker/agents/programs/conversation.ts";
import { AcpEventMapper } from "../../worker/agents/programs/event-mapper.ts";
import { HttpLink } from "../../worker/connection/http-link.ts";
import { Journal } from "../../worker/connection/journal.ts";
import { cleanMessage } from "../../worker/mcp/connection.ts";
import { readLogExcerpt } from "../../worker/tools/shell/output.ts";
import { Program } from "../../worker/tools/shell/program.ts";
import { createTools, type Toolbox } from "../../worker/tools/toolbox.ts";
import { readChanges } from "../../worker/workspace/changes.ts";
import { sized } from "../support/random.ts";
import { createRepository } from "../support/repository.ts";

const SECRET = "Zq7-tV2/kW9+xB4_nM6=hJ3.pL8";
const ALL_FORMS = [SECRET, Buffer.from(SECRET).toString("base64"), encodeURIComponent(SECRET)];
const FORMS = ALL_FORMS.slice(0, sized(1, ALL_FORMS.length));
const secrets = new Redactor([SECRET]);
const never = new AbortController().signal;
const PIECE = 8;

/** The pieces of the forms that are in the text. */
function pieces(text: string): string[] {
  const all = FORMS.flatMap((form) =>
    Array.from({ length: form.length - PIECE + 1 }, (_, at) => form.slice(at, at + PIECE)),
  );
  return [...new Set(all)].filter((piece) => text.includes(piece));
}

const line = (length: number): string => ".".repeat(Math.max(0, length));
/** Texts of `total` characters with a form at every offset at which it meets the bound. */
const around = (bound: number, total: number): string[] =>
  FORMS.flatMap((form) =>
    Array.from({ length: form.length + 2 }, (_, index) => {
      const at = bound - form.length - 1 + index;
      return line(at) + form + line(total - at - form.length);
    }),
  );

let dir: string;
let root: string;
let tools: Toolbox;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "sw-cut-"));
  root = join(dir, "work");
  await createRepository(root, { "a.txt": "a\n" });
  tools = createTools(root, join(dir, "jobs"), { KEY: SECRET }, null, () => secrets);
});
afterAll(async () => {
  await tools.close();
  rmSync(dir, { recursive: true, force: true });
});

const run = async (name: string, input: Record<string, unknown>): Promise<string> =>
  (await tools.run(name, input, never)).output;
function write(name: string, text: string): string {
  writeFileSync(join(root, name), text);
  return name;
}

/** What an agent program makes of the session's context. */
function createMapper(): { events: AcpEventMapper; told: () => string } {
  const told: unknown[] = [];
  let ids = 0;
  const context = {
    secrets,
    model: null,
    newId: (prefix: string) => `${prefix}_${(ids += 1)}`,
    emit: (...event: unknown[]) => void told.push(event),
    delta: (_: string, text: string) => void told.push(text),
    transcript: { records: [], append: async (record: unknown) => void told.push(record) },
  } as unknown as AgentContext;
  const conversation = new ProgramConversation(context);
  const events = new AcpEventMapper(context, conversation);
  return { events, told: () => JSON.stringify([told, conversation.describe(), events.lastMessage]) };
}
const chunk = (text: string) =>
  ({ sessionUpdate: "agent_message_chunk", messageId: "m", content: { type: "text", text } }) as const;

describe("[S11] no piece of a secret leaves where a text is cut:", () => {
  it("the head, the tail and the beginning of the excerpt of a log, while it grows and afterwards", () => {
    const log = join(dir, "some.log");
    for (const bound of [4_096, 40_000 - 12_288])
      for (const text of around(bound, 40_000)) {
        writeFileSync(log, text);
        expect(pieces(readLogExcerpt(log, secrets).output)).toEqual([]);
      }
    for (let at = 1; at < SECRET.length; at += 1) {
      writeFileSync(log, line(100) + SECRET.slice(0, at));
      const first = readLogExcerpt(log, secrets);
      appendFileSync(log, SECRET.slice(at) + line(100));
      const next = readLogExcerpt(log, secrets, first.end);
      expect([pieces(first.output), pieces(next.output)], `at ${at}`).toEqual([[], []]);
    }
  });

  it("the output of a command, of a command of which only the first 20 MB are kept, and of a job", async () => {
    const cut = 4_096 - 10;
    const print = `head -c ${cut} /dev/zero | tr '\\0' .; printf %s "$KEY"; head -c 40000 /dev/zero | tr '\\0' .`;
    expect(pieces(await run("bash", { command: print }))).toEqual([]);
    const limit = 20 * 1024 * 1024;
    const flood = `head -c ${limit - 12} /dev/zero | tr '\\0' .; printf %s "$KEY"; head -c 99999 /dev/zero | tr '\\0' .; sleep 20`;
    const flooded = await run("bash", { command: flood });
    expect(flooded).toContain("more than 20 MB");
    expect(pieces(flooded)).toEqual([]);
    const id = /job_\w+/.exec(await run("bash", { command: print, background: true }))?.[0];
    expect(pieces(await run("job", { action: "wait", id }))).toEqual([]);
  });

  it("lines that stream while a command runs, with a secret of several lines", async () => {
    const key = `-----BEGIN KEY-----\n${SECRET}${SECRET.toUpperCase()}\nshort line\n-----END KEY-----`;
    const known = new Redactor([key]);
    const own = createTools(root, join(dir, "jobs2"), { KEY: key }, null, () => known);
    const shown: string[] = [];
    const command = 'printf "%s" "${KEY:0:60}"; sleep 0.9; printf "%s\\nend\\n" "${KEY:60}"; sleep 0.9';
    await own.run("bash", { command }, never, { onOutput: (lines) => void shown.push(lines) });
    await own.close();
    expect(shown.join("|")).toContain("end");
    expect(shown.join("|")).not.toMatch(/Zq7-tV2|NM6=HJ3/);
  });

  it("lines of read, its pages, grep, the answer of an edit and its hints", async () => {
    const long = write("long.txt", around(2_000, 3_000).join("\n"));
    for (let start = 1; start < around(2_000, 3_000).length; start += 15) {
      const part = await run("read", { path: long, start, end: start + 14 });
      expect(part.length).toBeGreaterThan(500);
      expect(pieces(part)).toEqual([]);
    }
    for (const text of around(2_000 + 20_000, 60_000)) {
      const path = write("page.txt", text);
      expect(pieces(await run("read", { path, start: 1, column: 2_001 }))).toEqual([]);
      expect(pieces(await run("read", { path, start: 1, column: 22_001 }))).toEqual([]);
    }
    const found = around(300 - "found.txt:10:".length, 500);
    write("found.txt", found.join("\n"));
    const matches = await run("grep", { pattern: "....", path: "found.txt", limit: 1_000 });
    expect(matches.split("\n").length).toBeGreaterThanOrEqual(found.length);
    expect(pieces(matches)).toEqual([]);
    for (const text of around(300, 500)) {
      const path = write("edited.txt", `old\n${text}\n`);
      expect(pieces(await run("edit", { path, old: "old", new: "new" }))).toEqual([]);
      write("edited.txt", `some words here\n${text}\n`);
      expect(pieces(await run("edit", { path, old: "some words herd", new: "new" }))).toEqual([]);
    }
    for (const text of around(2_000, 2_500)) {
      const path = write("edited.txt", `${text} \nx\n`);
      expect(pieces(await run("edit", { path, old: `${text}\nx`, new: "new" }))).toEqual([]);
    }
  });

  it("the answer, the errors and the words of an MCP server", async () => {
    let answer = "";
    tools.add("mcp__a__b", async () => ({ output: answer, exitCode: 0, truncated: false }));
    for (const text of [...around(4_096, 40_000), ...around(40_000 - 12_288, 40_000)]) {
      answer = text;
      expect(pieces(await run("mcp__a__b", {}))).toEqual([]);
    }
    for (const text of around(1_000, 2_000)) expect(pieces(cleanMessage(text, secrets))).toEqual([]);
  });

  it("messages of a program in pieces, its calls and its notices", () => {
    for (let at = 1; at < SECRET.length; at += 1) {
      const { events, told } = createMapper();
      const rest = SECRET.slice(at);
      for (const part of [line(40), SECRET.slice(0, at), rest.slice(0, 3)]) events.update(chunk(part));
      events.flushMessage();
      events.update(chunk(`${rest.slice(3)}${line(40)}`));
      events.endTurn();
      expect(told(), `at ${at}`).toContain("[secret]");
      expect(pieces(told()), `at ${at}`).toEqual([]);
    }
    for (const text of [...around(32 * 1024, 40_000), ...around(16_000, 40_000)]) {
      const { events, told } = createMapper();
      events.update(chunk(text.slice(0, 20_000)));
      events.update(chunk(text.slice(20_000)));
      events.update(chunk(line(10)));
      events.endTurn();
      expect(pieces(told())).toEqual([]);
    }
    for (const text of [...around(300, 600), ...around(16 * 1024, 20_000)]) {
      const { events, told } = createMapper();
      const content = [{ type: "content" as const, content: { type: "text" as const, text } }];
      events.update({ sessionUpdate: "tool_call", toolCallId: "1", title: `x ${text}`, status: "pending" });
      events.update({ sessionUpdate: "tool_call_update", toolCallId: "1", status: "completed", content });
      events.notice("info", "acp_notice", text);
      events.endTurn();
      expect(pieces(told())).toEqual([]);
    }
  });

  it("the end of what a command line wrote, what it names as its failure, and standard error", async () => {
    for (const text of around(6_000 - 4_000, 6_000)) {
      const reader = new TextReader(createMapper().events);
      reader.line(secrets.redact(text));
      expect(pieces(reader.tail)).toEqual([]);
    }
    for (const text of around(2_000, 3_000)) {
      const reader = new StreamJsonReader(createMapper().events);
      reader.line(secrets.redact(JSON.stringify({ type: "result", is_error: true, result: text })));
      expect(pieces(reader.failure ?? "")).toEqual([]);
    }
    for (const at of [1, 8, 14, 22, SECRET.length - 1]) {
      const script = `head -c 3000 /dev/zero | tr '\\0' . >&2; printf %s "$KEY" >&2; head -c ${4_000 - at} /dev/zero | tr '\\0' . >&2`;
      const options = { command: "/bin/bash", args: ["-c", script], cwd: root, env: { KEY: SECRET }, secrets };
      const program = await Program.start(options);
      program.output.resume();
      await program.ended;
      expect(program.errors.length).toBeGreaterThan(3_900);
      expect(pieces(program.errors), `at ${at}`).toEqual([]);
    }
  });

  it("every text of an event", () => {
    const state = join(dir, "state");
    mkdirSync(state);
    const sent: string[] = [];
    const journal = new Journal(state, 1);
    const add = journal.append.bind(journal);
    journal.append = (event, json) => (sent.push(json), add(event, json));
    const link = new HttpLink({
      socketPath: join(dir, "none.sock"),
      token: "t",
      attempt: 1,
      journal,
      clock: systemClock,
      secrets: () => secrets,
    });
    for (const bound of [100, 500, 4_000, 16_384, 32 * 1024])
      for (const text of around(bound, bound + 500)) {
        link.emit("notice", { level: "info", code: text, text });
        link.emit("tool.started", { id: "t", name: text, input: { a: text } });
        link.emit("tool.finished", { id: "t", name: "x", output: text, exitCode: 0, ms: 1, truncated: false });
        link.emit("finished", { sha: "0".repeat(40), title: text, summary: text });
        link.emit("question", { id: "q", question: text, options: [text] });
        link.emit("message", { id: "m", role: "assistant", content: [{ type: "text", text }] });
      }
    for (const total of [16_384, 16_384 + 500])
      for (const text of around(total - 16_384, total))
        link.emit("failed", { code: "agent_error", message: text, evidence: text });
    expect(sent.length).toBeGreaterThan(500);
    expect(pieces(sent.join("\n"))).toEqual([]);
  });

  it("the diff that a reviewer is given", async () => {
    write("changed.txt", `${line(2_000)}${SECRET}${line(2_000)}\n`);
    const read = async (limit: number) => await readChanges({ root, baseSha: "HEAD", secrets }, never, limit);
    const whole = await readChanges({ root, baseSha: "HEAD", secrets: new Redactor([]) }, never, 1_000_000);
    const at = whole.indexOf(SECRET) - whole.indexOf("diff --git");
    for (const offset of [1, 8, 14, 20]) expect(pieces(await read(at + offset))).toEqual([]);
  });

  it("what others have cut: both ends, and the ends beside a note", () => {
    for (const form of FORMS)
      for (let at = 0; at <= form.length; at += 1)
        for (const text of [
          form.slice(at) + line(30),
          line(30) + form.slice(0, at),
          form.slice(at, at + 15),
          `${line(30)}${form.slice(0, at)}\n[... 9 bytes left out; the complete output: read {} ...]\n${form.slice(at)}`,
          `${form.slice(0, at)}... (3000 characters; continue with "start": 1)\n${line(9)}`,
        ])
          expect(pieces(secrets.redactTorn(text)), text).toEqual([]);
  });

  it("and texts that are no part of one stay as they are", () => {
    const url = new Redactor(["postgresql://user:Kd83hd7@db.internal:5432/app"]);
    for (const text of ["We use postgresql", "localhost", "db.internal:5432 is [...] the host", "postgresql\n"])
      expect(url.redact(text)).toBe(text);
  });
});
