/**
 * What the demo works on: a small repository with a test, its upstream, and what the scripted agent
 * does there.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Scenario } from "../../broker/model/fake/scenario.ts";
import type { ScriptStep } from "../../core/task.ts";

/** What the demo needs of scripts/git-server.mjs, a git smart-HTTP server in plain Node.js. */
export interface Upstream {
  readonly url: string;
  readonly host: string;
  createRepo(name: string, files: Record<string, string>): { url: string; path: string; sha: string };
  /** Runs git in the bare repository; its output. */
  git(name: string, ...args: string[]): string;
  close(): Promise<void>;
}
interface GitServer {
  startGitServer(options: { root: string; auth: { username: string; password: string } }): Promise<Upstream>;
}

export const SAMPLE = "greeter";
export const SAMPLE_USER = "demo";

/**
 * @param packageDir where this package is installed. @returns the upstream and the token that it
 * asks for.
 */
export async function openUpstream(packageDir: string, root: string): Promise<{ upstream: Upstream; token: string }> {
  const token = randomBytes(24).toString("hex");
  const module = (await import(pathToFileURL(join(packageDir, "scripts", "git-server.mjs")).href)) as GitServer;
  return { upstream: await module.startGitServer({ root, auth: { username: SAMPLE_USER, password: token } }), token };
}

export const SAMPLE_FILES: Readonly<Record<string, string>> = {
  "README.md": "# greeter\n\nSays hello.\n",
  "greet.mjs": 'export function greet(name) {\n  return "Hello " + name;\n}\n',
  "test.mjs": [
    'import assert from "node:assert/strict";',
    'import { existsSync } from "node:fs";',
    'import { greet } from "./greet.mjs";',
    "",
    'assert.equal(greet("Ada"), "Hello, Ada!");',
    'const file = new URL("farewell.mjs", import.meta.url);',
    "if (existsSync(file)) {",
    "  const { farewell } = await import(file);",
    '  assert.equal(farewell("Ada"), "Goodbye, Ada.");',
    "}",
    'console.log("all good");',
    "",
  ].join("\n"),
};

export const SAMPLE_PROMPT = "The test fails. Correct the greeting, and add a farewell beside it.";
export const SAMPLE_TEST = "node test.mjs";
/** The changes that the finished task must contain. */
export const SAMPLE_CHANGES: Readonly<Record<string, "added" | "modified">> = {
  "farewell.mjs": "added",
  "greet.mjs": "modified",
};

const SAMPLE_FAREWELL = "export function farewell(name) {\n  return `Goodbye, ${name}.`;\n}\n";

type Todo = Extract<ScriptStep, { todo: unknown }>;
const PLAN = ["Look around", "Correct the greeting", "Add a farewell", "Run the test"];
const plan = (at: number): Todo => ({
  todo: PLAN.map((text, i) => ({ text, status: i < at ? "completed" : i === at ? "in_progress" : "pending" })),
});

const call = (name: string, input: Readonly<Record<string, unknown>>) => ({ name, input });
const todo = (at: number) => call("todo", { items: plan(at).todo });
/** Between two pieces of an answer, ms: as a model speaks. */
const PACE = { delayMs: 12 };

/** The same work as a model would do it, for the fake one. */
export const SAMPLE_SCENARIO: Scenario = {
  turns: [
    {
      ...PACE,
      think: "A failing test and a missing function. I look at what there is before I change anything.",
      say: "I am a fake model: what I say is written down beforehand, but the agent, its tools and the gateway are the real ones.",
      tools: [todo(0), call("bash", { command: "ls && git log --oneline" }), call("read", { path: "greet.mjs" })],
    },
    {
      ...PACE,
      think: "Before I change it I want to see it fail.",
      say: "Now I see the test fail.",
      tools: [call("bash", { command: "node test.mjs 2>&1 | grep -m 1 -A 4 AssertionError" })],
    },
    {
      ...PACE,
      think: "The test names the words that it expects.",
      say: "The greeting lacks its comma and its exclamation mark.",
      tools: [todo(1), call("edit", { path: "greet.mjs", old: '"Hello " + name', new: "`Hello, ${name}!`" })],
    },
    {
      ...PACE,
      think: "The farewell gets a file of its own, as the test looks for it.",
      tools: [todo(2), call("write", { path: "farewell.mjs", content: SAMPLE_FAREWELL })],
      // An overloaded provider, as it happens in practice: the agent waits and retries.
      faults: [{ kind: "status", status: 529, retryAfter: 1 }],
    },
    {
      ...PACE,
      think: "Both are there. What does the test say?",
      tools: [todo(3), call("bash", { command: SAMPLE_TEST })],
    },
    { ...PACE, think: "Nothing else was asked for.", say: "The test passes.", tools: [todo(4)] },
    {
      ...PACE,
      think: "I report what I did.",
      tools: [
        call("finish", {
          title: "Correct the greeting, add a farewell",
          summary: "The greeting is what the test expects, and there is a farewell.",
        }),
      ],
    },
  ],
};

/** A little slower than it could be, so that there is something to watch. */
export const SAMPLE_SCRIPT: readonly ScriptStep[] = [
  { say: "I am the scripted agent: no model, but real tools in a real checkout. First I look around." },
  plan(0),
  { bash: "ls && git log --oneline" },
  { read: "greet.mjs" },
  { bash: "node test.mjs 2>&1 | grep -m 1 -A 4 AssertionError" },
  { wait: 400 },
  plan(1),
  { say: "The greeting lacks its comma and its exclamation mark." },
  { edit: { path: "greet.mjs", old: '"Hello " + name', new: "`Hello, ${name}!`" } },
  { wait: 400 },
  plan(2),
  { write: { path: "farewell.mjs", content: SAMPLE_FAREWELL } },
  { wait: 400 },
  plan(3),
  { bash: SAMPLE_TEST },
  plan(4),
  {
    finish: {
      title: "Correct the greeting, add a farewell",
      summary: "The greeting is what the test expects, and there is a farewell.",
    },
  },
];
