/**
 * Small repositories with something to do: the prompt, the files, and the test
 * that the agent never sees. `gold` is a correct solution, as turns of
 * the fake model.
 */
import type { Turn } from "../../src/broker/model/fake/scenario.ts";

export interface Case {
  readonly name: string;
  readonly language: "JavaScript" | "TypeScript" | "Python" | "shell";
  readonly task: string;
  readonly files: Readonly<Record<string, string>>;
  /** Laid over the agent's final tree; it must fail on the tree that the agent was given. */
  readonly hidden: Readonly<Record<string, string>>;
  /** Runs the last hidden file. Exit code 0 is not enough: see `prove`. */
  readonly check: string;
  /** Exit code 0 = the check can be run here. */
  readonly needs: string;
  readonly gold: readonly Turn[];
}

const look = (...paths: readonly string[]): Turn => ({
  say: "I look at the code first.",
  tools: paths.map((path) => ({ name: "read", input: { path } })),
});
const change = (path: string, from: string, to: string): Turn => ({
  tools: [{ name: "edit", input: { path, old: from, new: to } }],
});
const create = (path: string, content: string): Turn => ({ tools: [{ name: "write", input: { path, content } }] });
const run = (command: string): Turn => ({ say: "I try it.", tools: [{ name: "bash", input: { command } }] });
const done = (title: string): Turn => ({ tools: [{ name: "finish", input: { title, summary: `${title}.` } }] });
const lines = (...all: readonly string[]): string => `${all.join("\n")}\n`;

const NODE = "node --version";
const PYTHON = "python3 --version";
const TYPES = "node -e 'process.exit(process.features.typescript ? 0 : 1)'";
const assertions = (imports: string, ...checks: readonly string[]): string =>
  lines('import assert from "node:assert/strict";', imports, ...checks);

export const CASES: readonly Case[] = [
  {
    name: "range-end",
    language: "JavaScript",
    task: "`range(from, to)` in range.mjs should include its end. Correct it.",
    files: {
      "range.mjs": lines(
        "export function range(from, to) {",
        "  const all = [];",
        "  for (let i = from; i < to; i += 1) all.push(i);",
        "  return all;",
        "}",
      ),
    },
    hidden: {
      "hidden.mjs": assertions(
        'import { range } from "./range.mjs";',
        "assert.deepEqual(range(1, 3), [1, 2, 3]);",
        "assert.deepEqual(range(2, 2), [2]);",
        "assert.deepEqual(range(3, 1), []);",
      ),
    },
    check: "node hidden.mjs",
    needs: NODE,
    gold: [
      look("range.mjs"),
      change("range.mjs", "i < to", "i <= to"),
      run("node --check range.mjs"),
      done("range includes its end"),
    ],
  },
  {
    name: "escape-quotes",
    language: "JavaScript",
    task: "escapeHtml in html.mjs is used inside of attributes and lets quotes through. Make it safe there, for both kinds of quotes.",
    files: {
      "html.mjs": lines(
        "export const escapeHtml = (text) =>",
        '  text.replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("&", "&amp;");',
      ),
    },
    hidden: {
      "hidden.mjs": assertions(
        'import { escapeHtml } from "./html.mjs";',
        'assert.equal(escapeHtml("<a>"), "&lt;a&gt;");',
        'assert.equal(escapeHtml("R&D"), "R&amp;D");',
        'assert.ok(!/["\']/.test(escapeHtml(`"it\'s"`)));',
      ),
    },
    check: "node hidden.mjs",
    needs: NODE,
    gold: [
      look("html.mjs"),
      change(
        "html.mjs",
        '  text.replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("&", "&amp;");',
        '  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll(\'"\', "&quot;").replaceAll("\'", "&#39;");',
      ),
      run("node --check html.mjs"),
      done("Quotes are escaped, and the ampersand first"),
    ],
  },
  {
    name: "retry-last-error",
    language: "JavaScript",
    task: "`retry(work, times)` in retry.mjs hides the error of the last try: it resolves with undefined. It should reject with that error.",
    files: {
      "retry.mjs": lines(
        "export async function retry(work, times) {",
        "  for (let i = 0; i < times; i += 1) {",
        "    try {",
        "      return await work();",
        "    } catch {}",
        "  }",
        "}",
      ),
    },
    hidden: {
      "hidden.mjs": assertions(
        'import { retry } from "./retry.mjs";',
        "let n = 0;",
        "await assert.rejects(retry(async () => { throw new Error(`try ${++n}`); }, 3), /try 3/);",
        "n = 0;",
        'assert.equal(await retry(async () => { if (++n < 2) throw new Error("no"); return n; }, 3), 2);',
      ),
    },
    check: "node hidden.mjs",
    needs: NODE,
    gold: [
      look("retry.mjs"),
      create(
        "retry.mjs",
        lines(
          "export async function retry(work, times) {",
          "  let last;",
          "  for (let i = 0; i < times; i += 1) {",
          "    try {",
          "      return await work();",
          "    } catch (error) {",
          "      last = error;",
          "    }",
          "  }",
          "  throw last;",
          "}",
        ),
      ),
      run("node --check retry.mjs"),
      done("retry rejects with the last error"),
    ],
  },
  {
    name: "deep-defaults",
    language: "JavaScript",
    task: "withDefaults(options, defaults) in options.mjs loses nested defaults. Merge plain objects to any depth, replace arrays whole, and leave both arguments as they were.",
    files: {
      "options.mjs": lines("export const withDefaults = (options, defaults) => ({ ...defaults, ...options });"),
    },
    hidden: {
      "hidden.mjs": assertions(
        'import { withDefaults } from "./options.mjs";',
        "const defaults = { a: { b: 1, c: [1, 2] }, d: 4 };",
        "const before = structuredClone(defaults);",
        "assert.deepEqual(withDefaults({ a: { c: [9] } }, defaults), { a: { b: 1, c: [9] }, d: 4 });",
        "assert.deepEqual(defaults, before);",
      ),
    },
    check: "node hidden.mjs",
    needs: NODE,
    gold: [
      look("options.mjs"),
      create(
        "options.mjs",
        lines(
          'const isPlain = (value) => typeof value === "object" && value !== null && !Array.isArray(value);',
          "",
          "export function withDefaults(options, defaults) {",
          "  const merged = { ...defaults };",
          "  for (const [key, value] of Object.entries(options))",
          "    merged[key] = isPlain(value) && isPlain(defaults[key]) ? withDefaults(value, defaults[key]) : value;",
          "  return merged;",
          "}",
        ),
      ),
      run("node --check options.mjs"),
      done("Defaults are merged to any depth"),
    ],
  },
  {
    name: "typed-queue",
    language: "TypeScript",
    task: "Queue<T> in queue.ts gives back the newest entry. It should be first in, first out, and `take` of an empty queue should give undefined.",
    files: {
      "queue.ts": lines(
        "export class Queue<T> {",
        "  private items: T[] = [];",
        "  add(item: T): void {",
        "    this.items.push(item);",
        "  }",
        "  take(): T | undefined {",
        "    return this.items.pop();",
        "  }",
        "}",
      ),
    },
    hidden: {
      "hidden.ts": assertions(
        'import { Queue } from "./queue.ts";',
        "const queue = new Queue<number>();",
        "queue.add(1);",
        "queue.add(2);",
        "assert.deepEqual([queue.take(), queue.take(), queue.take()], [1, 2, undefined]);",
      ),
    },
    check: "node hidden.ts",
    needs: TYPES,
    gold: [
      look("queue.ts"),
      change("queue.ts", "this.items.pop()", "this.items.shift()"),
      run("node --check queue.ts"),
      done("The queue is first in, first out"),
    ],
  },
  {
    name: "median",
    language: "Python",
    task: "median in stats.py is wrong for lists of even length, and it sorts its caller's list. Correct both.",
    files: { "stats.py": lines("def median(values):", "    values.sort()", "    return values[len(values) // 2]") },
    hidden: {
      "hidden.py": lines(
        "from stats import median",
        "given = [4, 1, 3, 2]",
        "assert median(given) == 2.5, median(given)",
        "assert given == [4, 1, 3, 2], given",
        "assert median([5, 1, 3]) == 3",
      ),
    },
    check: "python3 hidden.py",
    needs: PYTHON,
    gold: [
      look("stats.py"),
      create(
        "stats.py",
        lines(
          "def median(values):",
          "    ordered = sorted(values)",
          "    middle = len(ordered) // 2",
          "    if len(ordered) % 2:",
          "        return ordered[middle]",
          "    return (ordered[middle - 1] + ordered[middle]) / 2",
        ),
      ),
      run("python3 -c 'from stats import median; print(median([1, 2, 3, 4]))'"),
      done("median of even lists, without touching the argument"),
    ],
  },
  {
    name: "csv-quotes",
    language: "Python",
    task: "parse_line in csvline.py splits at commas inside of quotes. Fields may be quoted, and a doubled quote in one stands for a quote.",
    files: { "csvline.py": lines("def parse_line(line):", '    return line.rstrip("\\n").split(",")') },
    hidden: {
      "hidden.py": lines(
        "from csvline import parse_line",
        "assert parse_line('a,b\\n') == ['a', 'b']",
        "assert parse_line('\"a,b\",c') == ['a,b', 'c'], parse_line('\"a,b\",c')",
        'assert parse_line(\'"say ""hi""",\') == [\'say "hi"\', \'\']',
      ),
    },
    check: "python3 hidden.py",
    needs: PYTHON,
    gold: [
      look("csvline.py"),
      create("csvline.py", lines("import csv", "", "", "def parse_line(line):", "    return next(csv.reader([line]))")),
      run("python3 -m py_compile csvline.py"),
      done("Quoted fields are read as such"),
    ],
  },
  {
    name: "names-with-spaces",
    language: "shell",
    task: "count.sh prints how many lines the *.txt files of a folder (its argument) have together. It fails for names with spaces. Correct it; a folder without such files has 0.",
    files: { "count.sh": lines("#!/bin/sh", "cat $(ls $1/*.txt) | wc -l | tr -d ' '") },
    hidden: {
      "hidden.sh": lines(
        "set -eu",
        "d=$(mktemp -d)",
        '[ "$(sh count.sh "$d")" = 0 ]',
        "printf 'a\\nb\\n' > \"$d/one two.txt\"",
        "printf 'c\\n' > \"$d/three.txt\"",
        '[ "$(sh count.sh "$d")" = 3 ]',
      ),
    },
    check: "sh hidden.sh",
    needs: "sh -c :",
    gold: [
      look("count.sh"),
      create(
        "count.sh",
        lines("#!/bin/sh", 'for file in "$1"/*.txt; do', '  [ -e "$file" ] && cat "$file"', "done | wc -l | tr -d ' '"),
      ),
      run("sh -n count.sh && sh count.sh ."),
      done("Names with spaces are counted"),
    ],
  },
  {
    name: "usage-exit",
    language: "shell",
    task: "greet.sh NAME greets. Without an argument it should print `usage: greet.sh NAME` to standard error and end with exit code 2.",
    files: { "greet.sh": lines("#!/bin/sh", 'echo "Hello, $1!"') },
    hidden: {
      "hidden.sh": lines(
        "set -u",
        '[ "$(sh greet.sh Ada)" = "Hello, Ada!" ] || exit 1',
        "out=$(sh greet.sh 2>/dev/null); code=$?",
        '[ "$code" = 2 ] && [ -z "$out" ] && sh greet.sh 2>&1 | grep -q "^usage: greet.sh NAME$" || exit 1',
      ),
    },
    check: "sh hidden.sh",
    needs: "sh -c :",
    gold: [
      look("greet.sh"),
      create(
        "greet.sh",
        lines(
          "#!/bin/sh",
          "if [ $# -eq 0 ]; then",
          '  echo "usage: greet.sh NAME" >&2',
          "  exit 2",
          "fi",
          'echo "Hello, $1!"',
        ),
      ),
      run("sh greet.sh; echo $?; sh greet.sh Ada"),
      done("greet.sh says how it is used"),
    ],
  },
];
