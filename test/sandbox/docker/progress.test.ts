import { describe, expect, it } from "vitest";
import { parseLine, createProgressReporter } from "../../../src/sandbox/docker/image/progress.ts";

/** The reports for these lines, one of which arrives every `gapMs`. */
function report(lines: readonly object[], gapMs = 0): string[] {
  const reports: string[] = [];
  let now = 0;
  const handleLine = createProgressReporter(
    (text) => void reports.push(text),
    () => now,
  );
  for (const line of lines) {
    handleLine(parseLine(JSON.stringify(line)));
    now += gapMs;
  }
  return reports;
}

describe("progress of a build or pull", () => {
  it("reports each step of a build in one short line, without ids", () => {
    const reports = report([
      { stream: "Step 1/3 : FROM node\n" },
      { stream: " ---> 137ef046e51f\n" },
      { stream: `Step 2/3 : RUN apt-get update  &&   apt-get install ${"x".repeat(200)}\n` },
      { stream: " ---> Running in bd11cb42d1b6\n" },
      { stream: "Removing intermediate container bd11cb42d1b6\n" },
      { stream: "Step 3/3 : USER 1\n" },
      { stream: "Successfully built 70c4edbc255d\n" },
      { aux: { ID: "sha256:70c4" } },
    ]);
    expect(reports).toHaveLength(3);
    expect(reports[1]).toMatch(/^Step 2\/3 : RUN apt-get update && apt-get install x+…$/);
    expect(reports[1]?.length).toBeLessThanOrEqual(120);
  });

  it("limits the reports of command output and downloads", () => {
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
    expect(report(lines)).toEqual(["Pulling from library/node"]);
    const slow = report(lines, 100);
    expect(slow.length).toBeGreaterThan(20);
    expect(slow.length).toBeLessThan(60);
    expect(slow.at(-1)).toMatch(/^Downloading a1b2 9\d %$/);
  });

  it("parses errors, and text that is not JSON", () => {
    expect(parseLine(JSON.stringify({ error: "no space left", errorDetail: {} }))).toMatchObject({
      text: null,
      error: "no space left",
    });
    expect(parseLine("plain words")).toMatchObject({ text: "plain words", error: null });
    expect(parseLine("[1]")).toMatchObject({ text: null, error: null });
  });
});
