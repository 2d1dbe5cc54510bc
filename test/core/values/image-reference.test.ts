import { describe, expect, it } from "vitest";
import { SlipwayError } from "../../../src/core/error.ts";
import { isImageAllowed, parseImageReference, parseImageRule } from "../../../src/core/values/image-reference.ts";

function read(text: string): string {
  try {
    return parseImageReference(text);
  } catch (error) {
    return error instanceof SlipwayError ? `${error.code}: ${error.message}` : String(error);
  }
}

const SHA = `sha256:${"a".repeat(64)}`;

describe("[S6] image references", () => {
  it.each([
    ["node", "docker.io/library/node:latest"],
    ["node:24-bookworm-slim", "docker.io/library/node:24-bookworm-slim"],
    ["acme/app:1", "docker.io/acme/app:1"],
    ["docker.io/node", "docker.io/library/node:latest"],
    ["index.docker.io/acme/app", "docker.io/acme/app:latest"],
    ["ghcr.io/acme/deep/app:v1.2_x", "ghcr.io/acme/deep/app:v1.2_x"],
    ["localhost/app", "localhost/app:latest"],
    ["127.0.0.1:5000/app:1", "127.0.0.1:5000/app:1"],
    [`node@${SHA}`, `docker.io/library/node@${SHA}`],
    // The digest selects the image, so the tag is dropped.
    [`node:24@${SHA}`, `docker.io/library/node@${SHA}`],
    // Never the id of a local image.
    ["137ef046e51f", "docker.io/library/137ef046e51f:latest"],
  ])("%s is %s", (text, name) => expect(read(text)).toBe(name));

  it.each([
    "",
    " ",
    "-v",
    "--privileged",
    "node ",
    "node\n",
    "node:24\nUSER root",
    "node\0",
    "Node",
    "node:",
    ":24",
    "node@",
    "node@sha256:abc",
    `node@${SHA}@${SHA}`,
    `node@${SHA.toUpperCase()}`,
    SHA,
    "a".repeat(64),
    `docker.io/library/${"f".repeat(64)}`,
    "../node",
    "a/../b",
    "a//b",
    "/node",
    "node/",
    "./node",
    "http://host/node",
    "user:pass@host/node",
    "169.254.169.254:99999999/x",
    "[::1]:5000/x",
    "host:/x",
    "host:0/x",
    "nоde",
    "xn--e1afmkfd/..",
    "$(id)",
    "a`id`",
    "a;id",
    "a?x=1",
    "a#b",
    "a%2fb",
    `${"a/".repeat(200)}b`,
    "a".repeat(1_000_000),
  ])("refuses %j", (text) => expect(read(text)).toMatch(/^invalid_image: Give a name like/));
});

describe("[S6] the operator's allow-list of images", () => {
  it.each([
    ["node:24", "docker.io/library/node:24"],
    ["node:*", "docker.io/library/node:*"],
    ["node*", "docker.io/library/node*"],
    ["acme/*", "docker.io/acme/*"],
    ["docker.io/*", "docker.io/*"],
    ["ghcr.io/acme/*", "ghcr.io/acme/*"],
    ["127.0.0.1:5000/*", "127.0.0.1:5000/*"],
  ])("%s means %s", (text, rule) => expect(parseImageRule(text)).toBe(rule));

  it.each(["*", "ghcr.io*x*", "**", "*/app", "Node*", "-x", "a b*", "$(id)*"])(
    "%j is neither a name nor a prefix",
    (text) => expect(parseImageRule(text)).toBeNull(),
  );

  it("a registry's name alone is not a prefix, because it would match longer host names", () => {
    // It is read as a prefix on Docker Hub and matches nothing on that registry.
    const rule = parseImageRule("ghcr.io*");
    expect(isImageAllowed("ghcr.io.evil.example/x:1", [rule ?? ""])).toBe(false);
    expect(isImageAllowed("ghcr.io/x/y:1", [rule ?? ""])).toBe(false);
  });

  it("allows what it names and nothing else", () => {
    const rules = ["node:24", "ghcr.io/acme/*"].map((text) => parseImageRule(text) ?? "");
    const may = (text: string): boolean => isImageAllowed(parseImageReference(text), rules);
    expect(["node:24", "docker.io/library/node:24", "ghcr.io/acme/x", `ghcr.io/acme/x@${SHA}`].map(may)).toEqual([
      true,
      true,
      true,
      true,
    ]);
    expect(
      ["node", "node:240", "evil/node:24", `node:24@${SHA}`, "ghcr.io/acmex/y", "ghcr.io.evil.com/acme/x"].some(may),
    ).toBe(false);
    expect(isImageAllowed(parseImageReference("node:24"), [])).toBe(false);
  });
});
