import { expect, it } from "vitest";
import { chooseTitle } from "../../../../worker/agents/programs/prompts.ts";

const PROMPT = "Please look at the parser, it crashes on empty files and nobody knows why";

it("[W11] a program's own words give the title where they say what was done", () => {
  expect(chooseTitle("## Fix the crash of the parser on empty files\n\nDetails.", PROMPT)).toBe(
    "Fix the crash of the parser on empty files",
  );
  expect(chooseTitle("Fixed the parser's crash on empty files. It read past the end.", PROMPT)).toBe(
    "Fixed the parser's crash on empty files",
  );
});

it("[W11] words that only say that it ends leave the prompt as the title", () => {
  for (const words of ["", "Done!", "I've fixed it.", "All set. The tests pass.", `Fixed ${"the parser ".repeat(20)}`])
    expect(chooseTitle(words, PROMPT)).toBe(PROMPT);
});
