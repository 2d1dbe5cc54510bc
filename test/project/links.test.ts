/** The documents name what exists: files, and headings in them. */
import { existsSync, readdirSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { expect, it } from "vitest";
import { readSource, ROOT } from "./source-files.ts";

const FOLDERS = ["docs", "machines", "test", "bench", "web"];

function documents(): string[] {
  const nested = FOLDERS.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" }).map((name) => join(folder, name)),
  );
  return [...readdirSync(ROOT), ...nested].filter((name) => name.endsWith(".md"));
}

/** The anchor that the large hosts make of a heading. */
function anchor(heading: string): string {
  const text = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1").toLowerCase();
  return text.replaceAll(/[^\p{L}\p{N}_\- ]/gu, "").replaceAll(" ", "-");
}

function findDeadLinks(file: string, text: string): string[] {
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, target = ""]) => {
    if (/^[a-z]+:/.test(target)) return [];
    const [path = "", heading] = target.split("#");
    const to = path === "" ? file : normalize(join(dirname(file), path));
    if (!existsSync(join(ROOT, to))) return [`${file}: ${target}`];
    if (heading === undefined || !to.endsWith(".md")) return [];
    const anchors = [...readSource(to).matchAll(/^#+ (.*)$/gm)].map(([, words = ""]) => anchor(words));
    return anchors.includes(heading) ? [] : [`${file}: ${target}`];
  });
}

it("every link of the documents leads to a file, and to a heading where it names one", () => {
  expect(documents().length).toBeGreaterThan(50);
  expect(documents().flatMap((file) => findDeadLinks(file, readSource(file)))).toEqual([]);
  const wrong = "[a](README.md#nowhere) [b](nothing.md) [c](#start) [d](https://example.com/x.md)";
  expect(findDeadLinks("README.md", wrong)).toEqual(["README.md: README.md#nowhere", "README.md: nothing.md"]);
});
