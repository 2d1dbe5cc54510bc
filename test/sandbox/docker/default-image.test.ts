/** The two variants of the default image on a real engine. */
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openEngine } from "../../../src/sandbox/docker/engine.ts";
import { DefaultImage } from "../../../src/sandbox/docker/image/default-image.ts";
import { describeWithDocker, dockerClient } from "../../support/docker/engine.ts";
import { dropImage } from "../../support/docker/images.ts";
import { dockerfile, workerFile } from "../../support/docker/sandbox-rig.ts";
import { inFullRuns } from "../../support/vitest/full-run.ts";

const TOOLS = ["python3", "pip3", "make", "gcc", "g++", "jq", "curl", "unzip", "patch", "git", "rg"];
const never = new AbortController().signal;

inFullRuns(describeWithDocker)("[S5] the default image", () => {
  const docker = dockerClient();
  let dir: string;
  let serial = 0;
  const made: DefaultImage[] = [];

  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), "slipway-image-"));
  });
  afterAll(async () => {
    for (const image of made) for (const name of await image.names()) await dropImage(name);
    rmSync(dir, { recursive: true, force: true });
  });

  /** An image that no engine has yet. */
  function open(edit: (text: string) => string = (text) => text) {
    const worker = join(dir, `worker-${++serial}.mjs`);
    writeFileSync(worker, `${readFileSync(workerFile, "utf8")}\n// ${randomUUID()}\n`);
    const file = join(dir, `Dockerfile-${serial}`);
    writeFileSync(file, edit(readFileSync(dockerfile, "utf8")));
    const reports: string[] = [];
    const report = (text: string): void => void reports.push(text);
    const image = new DefaultImage(openEngine({}), {
      dockerfile: file,
      workerFile: worker,
      imageTools: "full",
      report,
    });
    made.push(image);
    return { image, reports };
  }

  it("a task runs in the slim variant at once, and the next one has the tools of the full one", async () => {
    // An engine that has all layers of the full variant would have it before the slim one.
    const slow = `RUN if [ "$TOOLS" = full ]; then : ${randomUUID()}; sleep 15; fi\n`;
    const { image, reports } = open((text) => text.replace("# A worker may write", `${slow}$&`));
    const steps: string[] = [];
    await image.prepare((text) => steps.push(text), never);
    const first = await image.name();
    expect(steps.at(-1)).toContain("without build tools");
    await expect.poll(() => reports.at(-1)).toMatch(/ready|could not/);
    expect(reports.at(-1)).toBe("the image with build tools is ready");
    steps.length = 0;
    await image.prepare((text) => steps.push(text), never);
    expect(steps).toEqual([]);
    const second = await image.name();
    expect(second).toBe(`${first}-full`);
    const script = `for tool in ${TOOLS.join(" ")}; do command -v $tool >/dev/null || echo no $tool; done; python3 -m venv /tmp/v && id -u`;
    const container = await docker.createContainer({ Image: second, Entrypoint: ["/bin/sh", "-c", script], Tty: true });
    try {
      await container.start();
      await container.wait();
      expect(String(await container.logs({ stdout: true, stderr: true })).trim()).toBe("10001");
    } finally {
      await container.remove({ force: true });
    }
  });

  it("a full variant that cannot be built is reported, and tasks go on in the slim one", async () => {
    const { image, reports } = open((text) => text.replace("python3 python3-pip", "no-such-package-of-anybody"));
    await image.prepare(() => undefined, never);
    await expect.poll(() => reports.at(-1)).toMatch(/could not be built/);
    const [slim] = await image.names();
    expect(await image.name()).toBe(slim);
    await image.prepare(() => undefined, never);
    // It is not tried again at once.
    expect(reports).toHaveLength(2);
  });
});
