/**
 * Repositories in five languages on images that a team would make of Debian's packages: setup,
 * build and test in a whole task, then a second task whose setup comes from the cache. The packages
 * are some gigabytes, so it is asked for with SLIPWAY_LANGUAGES=1, or with names of languages;
 * docs/images.md has the results.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { deriveInstanceId } from "../../../src/core/lib/runtime/instance-id.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { LoopDevices } from "../../../src/sandbox/docker/disk/loop-devices.ts";
import { disksDir, removeRemains } from "../../support/docker/cleanup.ts";
import { BASE_IMAGE, dockerAvailable } from "../../support/docker/engine.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { eventually, ROOT, startServer, type RealServer } from "../../support/process/server.ts";

interface Language {
  readonly name: string;
  readonly files: Readonly<Record<string, string>>;
  readonly setup: string;
  readonly verify: string;
  /** The agent's change: an edit that the tests then need. */
  readonly edit: { readonly path: string; readonly old: string; readonly new: string };
  /** What the check prints when it passes. */
  readonly says: RegExp;
}

const LANGUAGES: readonly Language[] = [
  {
    name: "rust",
    files: {
      "Cargo.toml":
        '[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nadder = { path = "adder" }\n',
      "Cargo.lock":
        'version = 3\n\n[[package]]\nname = "adder"\nversion = "0.1.0"\n\n[[package]]\nname = "app"\nversion = "0.1.0"\ndependencies = [\n "adder",\n]\n',
      "adder/Cargo.toml": '[package]\nname = "adder"\nversion = "0.1.0"\nedition = "2021"\n',
      "adder/src/lib.rs": "pub fn add(a: i64, b: i64) -> i64 {\n    a + b\n}\n",
      "src/lib.rs":
        "pub fn twice(a: i64) -> i64 {\n    adder::add(a, 1)\n}\n\n#[test]\nfn twice_is_twice() {\n    assert_eq!(twice(21), 42);\n}\n",
      ".gitignore": "target/\n",
    },
    setup: "cargo build --tests --locked",
    verify: "cargo test --locked --quiet",
    edit: { path: "src/lib.rs", old: "adder::add(a, 1)", new: "adder::add(a, a)" },
    says: /1 passed/,
  },
  {
    name: "go",
    files: {
      "go.mod": "module example.org/app\n\ngo 1.19\n\nrequire example.org/adder v0.1.0\n",
      "vendor/modules.txt": "# example.org/adder v0.1.0\n## explicit; go 1.19\nexample.org/adder\n",
      "vendor/example.org/adder/adder.go": "package adder\n\nfunc Add(a, b int) int { return a + b }\n",
      "app.go": 'package app\n\nimport "example.org/adder"\n\nfunc Twice(a int) int { return adder.Add(a, 1) }\n',
      "app_test.go":
        'package app\n\nimport "testing"\n\nfunc TestTwice(t *testing.T) {\n\tif Twice(21) != 42 {\n\t\tt.Fatal(Twice(21))\n\t}\n}\n',
    },
    setup: "go build ./... && go vet ./...",
    verify: "go test ./...",
    edit: { path: "app.go", old: "adder.Add(a, 1)", new: "adder.Add(a, a)" },
    says: /ok\s+example\.org\/app/,
  },
  {
    name: "java",
    files: {
      "build.xml":
        '<project name="app" default="test"><path id="lib"><fileset dir="/usr/share/java" includes="junit4.jar,hamcrest-core.jar"/></path><target name="build"><mkdir dir="out"/><javac srcdir="src" destdir="out" includeantruntime="false" classpathref="lib"/></target><target name="test" depends="build"><junit haltonfailure="true" fork="true"><classpath><path refid="lib"/><pathelement path="out"/></classpath><formatter type="brief" usefile="false"/><test name="AppTest"/></junit></target></project>\n',
      "src/App.java": "public class App {\n  public static int twice(int a) {\n    return a + 1;\n  }\n}\n",
      "src/AppTest.java":
        "import static org.junit.Assert.assertEquals;\nimport org.junit.Test;\n\npublic class AppTest {\n  @Test\n  public void twice() {\n    assertEquals(42, App.twice(21));\n  }\n}\n",
      ".gitignore": "out/\n",
    },
    setup: "ant -q build",
    verify: "rm -rf out && ant test",
    edit: { path: "src/App.java", old: "a + 1", new: "a + a" },
    says: /Failures: 0[\s\S]*BUILD SUCCESSFUL/,
  },
  {
    name: "python",
    files: {
      "adder/pyproject.toml":
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n[project]\nname = "adder"\nversion = "0.1.0"\n[tool.setuptools]\npy-modules = ["adder"]\n',
      "adder/adder.py": "def add(a, b):\n    return a + b\n",
      "app.py": "from adder import add\n\n\ndef twice(a):\n    return add(a, 1)\n",
      "tests/test_app.py": "from app import twice\n\n\ndef test_twice():\n    assert twice(21) == 42\n",
      "requirements.txt": "./adder\n",
      ".gitignore": ".venv/\n__pycache__/\nbuild/\n*.egg-info/\n.pytest_cache/\n",
    },
    setup:
      "python3 -m venv --system-site-packages .venv && .venv/bin/pip install --no-build-isolation -r requirements.txt",
    verify: ".venv/bin/python -m pytest -q tests",
    edit: { path: "app.py", old: "add(a, 1)", new: "add(a, a)" },
    says: /1 passed/,
  },
  {
    name: "node",
    files: {
      "package.json": '{"name":"app","version":"1.0.0","type":"module","dependencies":{"adder":"file:adder"}}\n',
      "package-lock.json":
        '{"name":"app","version":"1.0.0","lockfileVersion":3,"requires":true,"packages":{"":{"name":"app","version":"1.0.0","dependencies":{"adder":"file:adder"}},"adder":{"version":"1.0.0"},"node_modules/adder":{"resolved":"adder","link":true}}}\n',
      "adder/package.json": '{"name":"adder","version":"1.0.0","type":"module","main":"index.js"}\n',
      "adder/index.js": "export const add = (a, b) => a + b;\n",
      "app.js": 'import { add } from "adder";\n\nexport const twice = (a) => add(a, 1);\n',
      "app.test.js":
        'import assert from "node:assert/strict";\nimport test from "node:test";\nimport { twice } from "./app.js";\n\ntest("twice", () => assert.equal(twice(21), 42));\n',
      ".gitignore": "node_modules/\n",
    },
    setup: "npm ci",
    verify: "node --test",
    edit: { path: "app.js", old: "add(a, 1)", new: "add(a, a)" },
    says: /pass 1\b/,
  },
];

const asked = process.env["SLIPWAY_LANGUAGES"] ?? "";
const chosen = LANGUAGES.filter(({ name }) => asked === "1" || asked.split(",").includes(name));
const missing = chosen.length === 0 ? "SLIPWAY_LANGUAGES is not 1" : dockerAvailable() ? null : "no Docker engine";
const image = (language: string): string => `slipway-test-language-${language}:1`;

describe.runIf(missing === null)(
  `[O7] [C1] languages on images of their own${missing === null ? "" : ` (skipped: ${missing})`}`,
  { timeout: 900_000 },
  () => {
    let upstream: GitServer;
    let dir: string;
    let server: RealServer;
    let hasLoops: boolean;

    beforeAll(async () => {
      const file = join(ROOT, "test/support/docker/languages.Dockerfile");
      for (const { name } of chosen)
        execFileSync(
          "docker",
          ["build", "-q", "--build-arg", `BASE=${BASE_IMAGE}`, "--target", name, "-t", image(name), "-f", file, "."],
          { cwd: join(ROOT, "test/support/docker"), stdio: "pipe" },
        );
      upstream = await startGitServer();
      dir = mkdtempSync(join(tmpdir(), "slipway-languages-"));
      hasLoops = (await new LoopDevices(dir).obstacle()) === null;
      const env = {
        SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
        SLIPWAY_IMAGES: "slipway-test-language-*",
        SLIPWAY_WARM: "0",
      };
      server = await startServer({ dataDir: join(dir, "data"), sandbox: "docker", policy: { backoffMs: 100 }, env });
    }, 1_800_000);
    afterAll(async () => {
      await server.kill("SIGTERM");
      await removeRemains(deriveInstanceId(join(dir, "data")), disksDir(join(dir, "data")));
      await upstream.close();
      rmSync(dir, { recursive: true, force: true });
    });

    const countDisks = (): number => {
      const kept = join(dir, "data", "setup-cache");
      const files = existsSync(kept) ? (readdirSync(kept, { recursive: true }) as string[]) : [];
      return files.filter((name) => name.endsWith(".img")).length;
    };

    async function run(repo: string, { edit }: Language) {
      const script = [{ edit }, { finish: { title: "Twice is twice", summary: "It adds the number to itself." } }];
      const { status, body } = await server.call("POST", "/v1/tasks", { repo, prompt: "Correct twice.", script });
      expect(status, JSON.stringify(body)).toBe(201);
      const { id } = body as WireTask;
      // A question is an end too: nobody answers here.
      const task = await eventually(
        async () => {
          const now = await server.task(id);
          return now.settledAt === null && now.question === null ? null : now;
        },
        `task ${id} settles`,
        600_000,
      ).catch(async (error: unknown) => {
        throw new Error(JSON.stringify((await server.events(id)).slice(-5)), { cause: error });
      });
      const events = await server.events(id);
      expect(task, JSON.stringify(events.slice(-5))).toMatchObject({ state: "done", outcome: "pushed" });
      const find = (type: string) => events.filter((event) => event.type === type);
      const setup = (state: string) =>
        find("task.step").find(({ data }) => data["name"] === "setup" && data["status"] === state);
      const ms = Date.parse(setup("ended")?.at ?? "") - Date.parse(setup("started")?.at ?? "");
      const check = (find("verify").at(-1)?.data ?? {}) as Readonly<Record<string, unknown>>;
      return { setup: String(setup("ended")?.data["detail"]), ms, check };
    }

    it.each(chosen.map((one) => [one.name, one] as const))(
      "%s: built, changed, tested and pushed; the second task's setup comes from the cache",
      async (name, language) => {
        const config = `image: ${image(name)}\nsetup:\n  - run: ${JSON.stringify(language.setup)}\n    cached: true\nverify:\n  - ${JSON.stringify(language.verify)}\n`;
        const { url } = upstream.createRepo(name, { ...language.files, ".slipway.yml": config });
        const before = countDisks();
        const first = await run(url, language);
        // Then the second task's workspace begins as a copy of it.
        if (hasLoops)
          await eventually(async () => (countDisks() > before ? true : null), "a disk is made of the setup");
        const second = await run(url, language);
        process.stdout.write(
          `${name}: setup ${first.ms} ms, from the cache ${second.ms} ms; check ${String(first.check["ms"])} ms, then ${String(second.check["ms"])} ms\n`,
        );
        expect(first.setup).toBe("kept for later tasks");
        expect(second.setup).toMatch(/^from the cache of /);
        for (const { check } of [first, second]) {
          expect(check, JSON.stringify(check)).toMatchObject({ exitCode: 0 });
          expect(String(check["tail"])).toMatch(language.says);
        }
      },
    );
  },
);
