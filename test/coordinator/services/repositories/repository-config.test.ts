import { describe, expect, it } from "vitest";
import {
  NO_CONFIG,
  parseRepositoryConfig,
  REPOSITORY_CONFIG_BYTES,
} from "../../../../src/coordinator/services/repositories/repository-config.ts";

const FULL = `# what this repository needs
image: node:24
setup:
  - npm ci
  - run: |
      npm run build
      npm run types
    timeoutMinutes: 3
    cached: false
cache:
  files: [prisma/schema.prisma]
verify:
  - npm test
mcp:
  docs: { command: docs-server, args: [--stdio] }
egress:
  hosts:
    - registry.npmjs.org:443
  setup: none
`;

describe("[S6] .slipway.yml", () => {
  it("keeps nothing of a setup with `cache: false`", () => {
    expect(parseRepositoryConfig("cache: false").config.cacheFiles).toBeNull();
    expect(parseRepositoryConfig("cache: true").config.cacheFiles).toEqual([]);
    expect(parseRepositoryConfig("cache: often").warnings[0]?.code).toBe("config_invalid");
  });

  it("parses image, setup, checks and hosts", () => {
    expect(parseRepositoryConfig(FULL)).toEqual({
      warnings: [],
      config: {
        image: "docker.io/library/node:24",
        setup: [
          { run: "npm ci", timeoutMinutes: 10 },
          { run: "npm run build\nnpm run types\n", timeoutMinutes: 3, cached: false },
        ],
        cacheFiles: ["prisma/schema.prisma"],
        verify: ["npm test"],
        mcp: { docs: { command: "docs-server", args: ["--stdio"] } },
        hosts: ["registry.npmjs.org:443"],
        setupEgress: "none",
      },
    });
  });

  it.each(["", "# nothing\n", "---\n", "image:\nsetup:\negress: {}\n"])("%j is an empty configuration", (text) =>
    expect(parseRepositoryConfig(text)).toEqual({ config: NO_CONFIG, warnings: [] }),
  );

  it("an unknown key is ignored and reported with its line; the other keys are used", () => {
    const { config, warnings } = parseRepositoryConfig(
      "verify: [npm test]\nimages: node\n__proto__: 1\negress:\n  host: [a:1]\nsetup:\n  - run: x\n    timeout: 3\n",
    );
    expect(config).toMatchObject({ verify: ["npm test"], setup: [{ run: "x" }], hosts: [] });
    const texts = warnings.map(({ code, text }) => `${code} ${text}`);
    for (const part of ["line 2", "images", "line 5", "egress.host", "line 8", "setup.0.timeout"])
      expect(texts.join("\n")).toContain(part);
    expect(warnings.every(({ code }) => code === "config_unknown_key")).toBe(true);
  });

  it.each<[string, RegExp]>([
    ["image: [node]", /line 1: image:/],
    ["verify: []\nimage: Node!", /line 2: image: Give a name like/],
    ["setup: npm ci", /line 1: setup:/],
    ["setup:\n  - npm ci\n  - ''", /line 3: setup\.1/],
    ["setup:\n  - run: x\n    timeoutMinutes: 99", /line 3: setup\.0\.timeoutMinutes/],
    ["setup:\n  - run: x\n    timeoutMinutes: .nan", /line 3/],
    ["egress:\n  hosts: ['*.example.org:443']", /line 2: egress\.hosts\.0: must be host:port/],
    ["egress:\n  hosts: [example.org]", /must be host:port/],
    ["- a list", /line 1: the file/],
    ["just words", /line 1: the file/],
    ["a: b: c", /line 1/],
    ["image: a\nimage: b", /line 2: .*unique/],
    ["a: &x 1\nimage: *x", /aliases/],
    ["image: !!js/function 'x'\nverify: {", /line \d/],
    ["one: 1\n---\ntwo: 2", /line \d/],
    ["image: 'open", /line 1/],
    ["\tverify: x", /line 1/],
    ['verify:\n - "a\\0b"', /must not contain NUL/],
  ])("%j is ignored, with a warning that gives the reason", (text, reason) => {
    const { config, warnings } = parseRepositoryConfig(text);
    expect(config).toEqual(NO_CONFIG);
    const last = warnings.at(-1);
    expect(last?.code).toBe("config_invalid");
    expect(last?.text).toMatch(reason);
    expect(last?.text).toMatch(/^\.slipway\.yml is not used: .* The task goes on without it\.$/s);
  });

  const N = REPOSITORY_CONFIG_BYTES;
  const bombs: Record<string, string> = {
    "open brackets": "[".repeat(N),
    "closed brackets": "[".repeat(N / 2) + "]".repeat(N / 2),
    "closing brackets": "]".repeat(N),
    braces: "{".repeat(N),
    "nested lists": "- ".repeat(N / 2),
    "nested maps": Array.from({ length: 350 }, (_, i) => `${" ".repeat(i)}a:`).join("\n"),
    "explicit keys": "? ".repeat(N / 2),
    anchors: "&a ".repeat(N / 3),
    aliases: `a: &x 1\nb: [${"*x,".repeat(20_000)}]`,
    "equal keys": "a:\n".repeat(N / 3),
    "many keys": `{${Array.from({ length: 10_000 }, (_, i) => `k${i}`).join()}}`,
    documents: "---\n".repeat(N / 4),
    colons: ": ".repeat(N / 2),
    "ten levels of ten aliases": Array.from(
      { length: 10 },
      (_, i) => `a${i}: &a${i} [${`*a${i - 1},`.repeat(i === 0 ? 0 : 9)}]`,
    ).join("\n"),
  };
  it.each(Object.keys(bombs))("a file of %s neither ends nor blocks the process", (name) => {
    const began = performance.now();
    expect(parseRepositoryConfig(bombs[name] ?? "").warnings.at(-1)?.code).toMatch(/^config_/);
    expect(performance.now() - began).toBeLessThan(5_000);
  });
});
