/**
 * What the same container must still allow: git, npm with a native module, pip, compilers,
 * test runs; all without a network.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openAttackTarget, type AttackTarget } from "../support/docker/attacker.ts";
import { BASE_IMAGE, describeWithDocker } from "../support/docker/engine.ts";
import { ROOT } from "../support/process/server.ts";
import { inFullRuns } from "../support/vitest/full-run.ts";

const LEGIT = join(ROOT, "test/support/docker/legit");
const DOCKERFILE = `ARG BASE=${BASE_IMAGE}
FROM \${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-pip python3-venv make g++ && rm -rf /var/lib/apt/lists/*
`;

/** An image with more tools, made once for each base image. */
function toolsImage(): string {
  const base = spawnSync("docker", ["image", "inspect", "-f", "{{.Id}}", BASE_IMAGE], { encoding: "utf8" }).stdout;
  const tag = `slipway-test-tools:${createHash("sha256").update(`${base}${DOCKERFILE}`).digest("hex").slice(0, 12)}`;
  if (spawnSync("docker", ["image", "inspect", tag]).status === 0) return tag;
  const { status, stderr } = spawnSync("docker", ["build", "-t", tag, "-"], {
    input: DOCKERFILE,
    encoding: "utf8",
    timeout: 280_000,
  });
  if (status !== 0) throw new Error(`the image with tools could not be built: ${stderr}`);
  return tag;
}

const files = (): Record<string, string> => ({
  ".gitignore": "node_modules\n__pycache__\nbuild\n",
  ...Object.fromEntries(
    readdirSync(LEGIT, { recursive: true, encoding: "utf8", withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => join(parentPath, name))
      .map((path) => [path.slice(LEGIT.length + 1), readFileSync(path, "utf8")]),
  ),
});

const LOCAL = "--registry http://127.0.0.1:4873 --no-audit --no-fund --nodedir=/usr/local";
const WORK: readonly (readonly [name: string, command: string, says: RegExp])[] = [
  [
    "a shell with pipes, here-documents and background jobs",
    "sleep 1 & seq 3 | sort -r | tr '\\n' ' '; cat <<< $((6 * 7)); wait",
    /3 2 1 42/,
  ],
  [
    "programs run from /tmp and home",
    "cp /bin/echo /tmp/e && cp /bin/echo ~/e && /tmp/e from tmp && ~/e from home",
    /from tmp\nfrom home/,
  ],
  [
    "git clone, commit and push through the broker",
    "node attack/ports.mjs run 'git clone -q $REPO /tmp/clone && cd /tmp/clone && git -c user.name=x -c user.email=x@y commit -q --allow-empty -m mine && git push -q $REPO HEAD:refs/slipway/work && echo pushed'",
    /pushed/,
  ],
  [
    "git history, branches and diffs",
    "git log --oneline | wc -l && git switch -qc side && git switch -q - && git branch -D side",
    /Deleted branch side/,
  ],
  ["ripgrep", "rg -l 'napi_create_int32' .", /answer\.c/],
  ["npm pack", "(cd native && npm pack --silent --pack-destination /tmp)", /answer-1\.0\.0\.tgz/],
  [
    "npm ci with a native module, compiled on the spot",
    `node registry.mjs /tmp/answer-1.0.0.tgz 4873 & sleep 0.5; npm init -y >/dev/null && npm install answer ${LOCAL} --ignore-scripts --silent && rm -rf node_modules && npm ci ${LOCAL} --foreground-scripts 2>&1 | tail -3; touch /tmp/stop; wait; node -p 'require("answer").answer()'`,
    /^42$/m,
  ],
  ["a Node test run", "node --test app.test.cjs", /pass 1\b/],
  [
    "worker threads, timers and a server on loopback",
    `node -e 'const { Worker } = require("worker_threads"); new Worker("require(\\"http\\").createServer((q, r) => r.end(\\"served\\")).listen(8000, () => require(\\"worker_threads\\").parentPort.postMessage(1))", { eval: true }).on("message", () => fetch("http://127.0.0.1:8000").then((r) => r.text()).then((t) => { console.log(t); process.exit() }))'`,
    /served/,
  ],
  [
    "a C++ program",
    "echo '#include <iostream>\nint main() { std::cout << \"compiled\\n\"; }' > /tmp/a.cc && g++ -O1 /tmp/a.cc -o /tmp/a && /tmp/a",
    /compiled/,
  ],
  [
    "a pip install from a local wheel index",
    "cd python && python3 wheel.py && python3 -m venv /tmp/venv && /tmp/venv/bin/pip install -q --no-index --find-links wheels greeting && /tmp/venv/bin/pip list 2>/dev/null",
    /greeting\s+1\.0/,
  ],
  ["a Python test run", "/tmp/venv/bin/python -m unittest -v 2>&1", /OK$/m],
  [
    "multiprocessing in Python",
    "python3 -c 'import multiprocessing as m; print(sum(m.Pool(2).map(abs, range(-5, 0))))'",
    /^15$/m,
  ],
  ["a debugger's look at its own child", "sleep 30 & grep -c . /proc/$!/maps && kill $!", /\d/],
];

inFullRuns(describeWithDocker)("legitimate work in the same confinement", () => {
  let stage: AttackTarget;
  beforeAll(async () => {
    stage = await openAttackTarget({ baseImage: toolsImage(), files: files() });
  }, 400_000);
  afterAll(async () => await stage.close());

  it("passes", async () => {
    const { task, said } = await stage.attack([
      ...WORK.map(([, command]) => ({ bash: command, timeoutMs: 120_000 })),
      { finish: { title: "Work", summary: "Done." } },
    ]);
    const results = WORK.map(([name, , says], i) => [
      name,
      says.test(said[i]?.output ?? "") ? "passes" : `fails: ${said[i]?.output}`,
    ]);
    expect(results).toEqual(WORK.map(([name]) => [name, "passes"]));
    expect(task).toMatchObject({ state: "done", outcome: "pushed", attempt: 1 });
    expect(stage.upstream.git("app", "show", `${task.branch}:package-lock.json`)).toContain("127.0.0.1:4873");
  });
});
