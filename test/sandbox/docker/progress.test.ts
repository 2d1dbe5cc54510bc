import { describe, expect, it } from "vitest";
import { parseLine, createProgressReporter } from "../../../src/sandbox/docker/image/progress.ts";

/** What people are told of these lines, one of which arrives every `gapMs`. */
function told(lines: readonly object[], gapMs = 0): string[] {
  const said: string[] = [];
  let now = 0;
  const tell = createProgressReporter(
    (text) => void said.push(text),
    () => now,
  );
  for (const line of lines) {
    tell(parseLine(JSON.stringify(line)));
    now += gapMs;
  }
  return said;
}

describe("the engine's report of an image", () => {
  it("of a build shows each step on one short line, and no ids", () => {
    const said = told([
      { stream: "Step 1/3 : FROM node\n" },
      { stream: " ---> 137ef046e51f\n" },
      { stream: `Step 2/3 : RUN apt-get update  &&   apt-get install ${"x".repeat(200)}\n` },
      { stream: " ---> Running in bd11cb42d1b6\n" },
      { stream: "Removing intermediate container bd11cb42d1b6\n" },
      { stream: "Step 3/3 : USER 1\n" },
      { stream: "Successfully built 70c4edbc255d\n" },
      { aux: { ID: "sha256:70c4" } },
    ]);
    expect(said).toHaveLength(3);
    expect(said[1]).toMatch(/^Step 2\/3 : RUN apt-get update && apt-get install x+…$/);
    expect(said[1]?.length).toBeLessThanOrEqual(120);
  });

  it("of a chatty command or a download shows a line now and then", () => {
    const download = (current: number) => ({
      status: "Downloading",
      id: "a1b2",
      progressDetail: { current, total: 1_000 },
      progress: "[=>]",
    });
    const lines = [
      { status: "Pulling from library/node", id: "24" },
      ...Array.from({ length: 1_000 }, (_, i) => download(i)),
    ];
    expect(told(lines)).toEqual(["Pulling from library/node"]);
    const slow = told(lines, 100);
    expect(slow.length).toBeGreaterThan(20);
    expect(slow.length).toBeLessThan(60);
    expect(slow.at(-1)).toMatch(/^Downloading a1b2 9\d %$/);
  });

  it("passes on the error, and text that is no JSON", () => {
    expect(parseLine(JSON.stringify({ error: "no space left", errorDetail: {} }))).toMatchObject({
      text: null,
      error: "no space left",
    });
    expect(parseLine("plain words")).toMatchObject({ text: "plain words", error: null });
    expect(parseLine("[1]")).toMatchObject({ text: null, error: null });
  });
});
