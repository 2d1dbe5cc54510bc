/**
 * Derived images on a real engine: what is added to an image, which of its settings count, and how
 * unsuitable images are rejected.
 */
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect } from "vitest";
import { openDockerSandbox } from "../../../src/sandbox/docker/sandbox.ts";
import { openEngine } from "../../../src/sandbox/docker/engine.ts";
import { DefaultImage } from "../../../src/sandbox/docker/image/default-image.ts";
import { openWorkerImage } from "../../../src/sandbox/docker/image/worker-image.ts";
import { UnusedImages } from "../../../src/sandbox/docker/garbage.ts";
import { describeWithDocker, dockerClient } from "../../support/docker/engine.ts";
import { dropImage, importImage, rootfs, startRegistry, type Registry } from "../../support/docker/images.ts";
import type { Sandbox, SandboxSpec } from "../../../src/core/ports/sandbox.ts";
import { sampled } from "../../support/random.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const root = join(import.meta.dirname, "../../..");
const source = {
  workerFile: join(root, "test/support/process/stand-in-worker.mjs"),
  dockerfile: join(root, "Dockerfile"),
};
const never = new AbortController().signal;
const it = inTurn(6);
const PATH = "ENV PATH=/usr/bin:/bin";

describeWithDocker("[S5] derived images", () => {
  const docker = dockerClient();
  const instance = `images-${process.pid}`;
  const names: string[] = [];
  let serial = 0;
  let own: string;
  let sandbox: Sandbox;
  let dir: string;
  let reports: string[];

  beforeAll(async () => {
    const image = openWorkerImage(openEngine({}), source);
    await image.prepare(() => undefined, never);
    own = await image.name();
  });
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "slipway-images-"));
    chmodSync(dir, 0o755);
    sandbox = openDockerSandbox({ instance, ...source, memoryMb: 256 });
    reports = [];
  });
  afterEach(async () => {
    for (const { name } of await sandbox.list()) await sandbox.remove(name);
    await sandbox.close();
    rmSync(dir, { recursive: true, force: true });
  });
  afterAll(async () => {
    const left = await docker.listContainers({ all: true, filters: { label: [`slipway.prepare=${instance}`] } });
    expect(left).toEqual([]);
    const bases = await Promise.all(
      names.map((name) =>
        docker
          .getImage(name)
          .inspect()
          .catch(() => null),
      ),
    );
    const mine = (await docker.listImages()).filter((one) =>
      bases.some((base) => base?.Id === one.Labels?.["slipway.base"]),
    );
    for (const { Id } of mine) await dropImage(Id);
    for (const name of names) await dropImage(name);
  });

  /** Creates a local image. @returns its canonical name. */
  function createImage(change = "", changes: readonly string[] = []): string {
    const name = `slipway-test-image:${process.pid}-${++serial}`;
    importImage(name, rootfs(own, change), [PATH, ...changes]);
    names.push(name);
    return `docker.io/library/${name}`;
  }

  const prepare = (image: string): Promise<void> => sandbox.prepare((text) => void reports.push(text), never, image);

  function testSpec(image: string, token: string): SandboxSpec {
    const taskId = `tsk_i${process.pid}x${++serial}`;
    return { name: `slipway-${taskId}-a1`, taskId, attempt: 1, socketDir: dir, token, limits: {}, image };
  }

  /** The output of a command in a worker on that image. */
  async function runInside(image: string, command: string): Promise<string> {
    const spec = testSpec(image, `run:${command}`);
    await sandbox.ensure(spec, never);
    const exit = await sandbox.wait(spec.name, never);
    expect(exit, exit.tail).toMatchObject({ exitCode: 0 });
    return exit.tail;
  }

  it.always("an image with git gets the worker, keeps its own tools on the PATH, and is prepared once", async () => {
    const image = createImage("mkdir opt; echo theirs > opt/theirs", ["ENV COLOUR=blue"]);
    await Promise.all([prepare(image), sandbox.prepare(() => undefined, never, image)]);
    expect(reports).toEqual([`adding the worker to ${image}`, `${image} is ready`]);
    const tail = await runInside(
      image,
      `id; whoami; cat /opt/theirs; echo "$COLOUR"; stat -c "%u %n" /workspace; echo x > /tmp/x && echo x > ~/x && echo both writable; command -v node || echo no node; touch /x /worker/x 2>&1 || true`,
    );
    for (const part of [
      "uid=10001(agent)",
      "\nagent\n",
      "theirs",
      "blue",
      "10001 /workspace",
      "both writable",
      "no node",
      "Read-only file system",
    ])
      expect(tail).toContain(part);
    reports.length = 0;
    await prepare(image);
    expect(reports).toEqual([]);
  });

  it("a hostile image runs nothing, and its settings do not count", async () => {
    const evil = `echo 'throw new Error("evil.js ran")' > evil.js; rm etc/passwd; ln -s /proc/self/environ etc/passwd; ln -s / workspace; ln -s /etc worker; echo junk > evil.so; echo "echo evil bash" > evil.sh`;
    const image = createImage(evil, [
      "ONBUILD RUN touch /onbuild-ran",
      "VOLUME /data",
      "VOLUME /tmp",
      "VOLUME /home",
      "ENV NODE_OPTIONS=--require=/evil.js",
      "ENV LD_PRELOAD=/evil.so",
      "ENV BASH_ENV=/evil.sh",
      "ENV SLIPWAY_EXTRA=1",
      'ENTRYPOINT ["/bin/sh", "-c", "echo their entry point"]',
      "HEALTHCHECK --interval=1s CMD touch /tmp/health",
      "USER root",
      "WORKDIR /root",
    ]);
    await prepare(image);
    const spec = testSpec(
      image,
      `run:id -u; ls -d /onbuild-ran /tmp/health; env | grep -E "^(LD_|NODE_|BASH_ENV|SLIPWAY_EXTRA)"; ls -ld /etc/passwd /workspace; pwd; grep " /data " /proc/mounts`,
    );
    await sandbox.ensure(spec, never);
    const info = await docker.getContainer(spec.name).inspect();
    const { exitCode, tail } = await sandbox.wait(spec.name, never);
    expect(exitCode, tail).toBe(0);
    expect(info.Config).toMatchObject({
      User: "10001:10001",
      WorkingDir: "/workspace",
      Entrypoint: ["/worker/node", "/worker/worker.mjs"],
      Healthcheck: { Test: ["NONE"] },
      StopSignal: "SIGTERM",
    });
    expect(info.HostConfig).toMatchObject({ NetworkMode: "none", CapDrop: ["ALL"], ReadonlyRootfs: true });
    // The only volumes are the workspace and one below /tmp, which the tmpfs there covers.
    expect(info.Mounts.filter((one) => one.Type === "volume").map((one) => one.Destination)).not.toContain("/data");
    expect(tail).not.toMatch(/evil|their entry point/);
    expect(tail).toMatch(/^10001$/m);
    expect(tail).toMatch(/tmpfs \/data tmpfs \S*size=65536k/);
    expect(tail).toContain("\n/workspace\n");
    expect(tail).toMatch(/\netc\/passwd|lrwxrwxrwx.* \/etc\/passwd/);
    expect(tail).toMatch(/drwxr-xr-x .* \/workspace/);
    for (const name of ["LD_PRELOAD", "NODE_OPTIONS", "BASH_ENV", "SLIPWAY_EXTRA"])
      expect(tail).not.toMatch(new RegExp(`^${name}=.+`, "m"));
  });

  describe("rejects an unsuitable image and names the reason", () => {
    const cases: readonly (readonly [string, string, readonly string[], RegExp])[] = [
      ["without git", "rm -r usr/bin/git usr/lib/git-core", [], /it has no git/],
      ["without bash", "rm bin/bash", [], /it has no \/bin\/bash/],
      [
        "built on musl",
        "rm -r lib64; touch lib/ld-musl-x86_64.so.1 lib/ld-musl-aarch64.so.1",
        [],
        /built on musl, as Alpine is/,
      ],
      ["without a C library", "rm -r lib64 lib", [], /it has no glibc/],
      [
        "with an old C library",
        "for f in lib/*/libc.so.6; do sed -i 's/GLIBC_2\\.28/GLIBC_2.99/' $f; done",
        [],
        /C library is too old \(Node needs GLIBC_2.28\)/,
      ],
      [
        "without a library of Node's",
        "rm lib/*/libstdc++.so.6 usr/lib/*/libstdc++.so.6 || true",
        [],
        /it has no libstdc\+\+\.so\.6/,
      ],
      ["that hides the worker under a volume", "", ["VOLUME /worker/sub"], /declares a volume at \/worker\/sub/],
      ["that is one volume", "", ["VOLUME /"], /declares a volume at \//],
      ["with a volume over its libraries", "", ["VOLUME /lib", "VOLUME /lib64"], /it has no glibc/],
      ["with a volume that the engine refuses", "", ["VOLUME /proc"], /the engine refuses it/],
      ["that borrows our labels", "", ["LABEL slipway.instance=x"], /labels that begin with slipway/],
    ];
    it.each(sampled(cases, 2))("%s", async (_, change, changes, reason) => {
      const image = createImage(change, changes);
      const failure = await prepare(image).then(
        () => null,
        (error: unknown) => error,
      );
      expect(failure).toMatchObject({ code: "image_missing", message: expect.stringMatching(reason) });
      expect(failure).toMatchObject({ message: expect.stringMatching(new RegExp(image.replaceAll(/[./]/g, "\\$&"))) });
    });
  });

  describe("from a registry", () => {
    let registry: Registry;
    let files: Buffer;
    beforeAll(() => {
      files = rootfs(own);
    });
    beforeEach(async () => {
      registry = await startRegistry(files, { Env: ["PATH=/usr/bin:/bin"] });
    });
    afterEach(() => registry.close());

    it("a pull reports its progress to all waiting callers", async () => {
      const image = `${registry.host}/team/app:1`;
      names.push(image);
      const otherReports: string[] = [];
      await Promise.all([prepare(image), sandbox.prepare((text) => void otherReports.push(text), never, image)]);
      expect(reports[0]).toBe(`pulling ${image}`);
      expect(reports.some((line) => /^pulling \S+: \d+ % of \d+ MB$/.test(line))).toBe(true);
      expect(reports.slice(-2)).toEqual([`adding the worker to ${image}`, `${image} is ready`]);
      expect(otherReports).toEqual(reports);
      expect(registry.asked.filter((line) => /^GET .*blobs/.test(line))).toHaveLength(2);
      expect(await runInside(image, "id -un")).toContain("agent");
    });

    it("an image that the registry lacks is image_missing; a failing registry is image_pull_failed", async () => {
      const image = `${registry.host}/team/gone:1`;
      registry.failure = { status: 404, body: '{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}' };
      await expect(prepare(image)).rejects.toMatchObject({
        code: "image_missing",
        message: expect.stringMatching(/team\/gone:1 could not be pulled/),
      });
      registry.failure = { status: 503, body: "{}" };
      await expect(prepare(image)).rejects.toMatchObject({ code: "image_pull_failed" });
      const { host } = registry;
      await registry.close();
      await expect(prepare(`${host}/team/gone:1`)).rejects.toMatchObject({ code: "image_pull_failed" });
    });

    it("an image for another architecture is reported as such", async () => {
      await registry.close();
      registry = await startRegistry(files, {}, 0, "riscv64");
      const image = `${registry.host}/team/other:1`;
      names.push(image);
      await expect(prepare(image)).rejects.toMatchObject({
        code: "image_missing",
        message: expect.stringMatching(/made for linux\/riscv64|architecture/),
      });
    });

    it("aborting one caller does not abort the pull of the others", async () => {
      const image = `${registry.host}/team/patience:1`;
      names.push(image);
      const impatient = new AbortController();
      const leaves = sandbox.prepare(() => impatient.abort(), impatient.signal, image);
      const [first, second] = await Promise.allSettled([leaves, prepare(image)]);
      expect(first).toMatchObject({ status: "rejected", reason: { name: "AbortError" } });
      expect(second.status).toBe("fulfilled");
    });
  });

  it("superseded images are listed and removed, used ones are kept", async () => {
    const [kept, used, old] = [createImage("echo 1 > kept"), createImage("echo 2 > used"), createImage("echo 3 > old")];
    for (const image of [kept, used, old]) await prepare(image);
    await sandbox.ensure(testSpec(used, "sleep"), never);
    const tags = async (base: string): Promise<string[]> =>
      (await docker.listImages())
        .filter((one) => one.Labels?.["slipway.from"] === base)
        .flatMap((one) => one.RepoTags ?? []);
    const [oldTag, usedTag, keptTag] = [(await tags(old))[0]!, (await tags(used))[0]!, (await tags(kept))[0]!];
    // The names now refer to other images.
    for (const image of [used, old])
      importImage(image.replace("docker.io/library/", ""), rootfs(own, `echo newer > ${++serial}`), [PATH]);
    const engine = openEngine({});
    const images = new UnusedImages(engine, new DefaultImage(engine, source), instance);
    const crashed = await docker.createContainer({ Image: own, Labels: { "slipway.prepare": instance } });
    const seen = async (age: number) => (await images.remove(age, "dry-run", never)).map(({ name }) => name);
    const found = await seen(0);
    expect(found).toContain(oldTag);
    for (const name of [usedTag, keptTag, own]) expect(found).not.toContain(name);
    // A recent container may belong to a running preparation.
    expect(await seen(3_600_000)).not.toContain(oldTag);
    expect(found).not.toContain(crashed.id);
    await crashed.remove();
    await dropImage(oldTag);
  });
});
