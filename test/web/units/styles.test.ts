/** Holds the styles of the app to its code: no rule is for a class that no element can have. */
import { readdirSync } from "node:fs";
import { join } from "node:path/posix";
import { expect, it } from "vitest";
import { readSource, ROOT, sourceFiles } from "../../project/source-files.ts";

const STYLES = "web/src/styles";
/** Classes that are put together: `st-` with a state, `b` with a number. */
const COMPOSED = /^(?:st-[a-z]+|b\d)$/;

function readClasses(): Set<string> {
  const texts = readdirSync(join(ROOT, STYLES)).map((name) => readSource(`${STYLES}/${name}`));
  const selectors = texts.map((text) => text.replaceAll(/\/\*.*?\*\//gs, "").replaceAll(/\{[^{}]*\}/g, "{}"));
  return new Set([...selectors.join("\n").matchAll(/\.(-?[a-z][\w-]*)/gi)].map(([, name = ""]) => name));
}

/** The words of all texts and of all names of properties. */
function readWords(): Set<string> {
  const texts = [...sourceFiles(["web/src"]), "web/index.html"].map(readSource).join("\n");
  const found = texts.match(/"[^"\n]*"|`[^`]*`|[\w-]+(?=:)/g) ?? [];
  return new Set(found.flatMap((text) => text.match(/[\w-]+/g) ?? []));
}

it("the code of the app has each class that the styles have", () => {
  const words = readWords();
  const classes = [...readClasses()];
  expect(classes.length).toBeGreaterThan(300);
  expect(classes.filter((name) => !words.has(name) && !COMPOSED.test(name))).toEqual([]);
});
