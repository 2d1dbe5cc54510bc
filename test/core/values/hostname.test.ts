import { describe, expect, it } from "vitest";
import { isHostname, parseHostAndPort } from "../../../src/core/values/hostname.ts";

const label = "a".repeat(63);

describe("host names", () => {
  it.each(["a", "localhost", "example.com", "x-1.example", label, "127.0.0.1", "255.255.255.255"])(
    "%s is valid",
    (host) => {
      expect(isHostname(host)).toBe(true);
    },
  );

  it.each([
    "",
    ".",
    "a.",
    ".a",
    "a..b",
    "-a",
    "a-",
    "A",
    "a_b",
    "a b",
    `${label}a`,
    `${label}.`.repeat(4),
    "ä.example",
  ])("%j is invalid", (host) => {
    expect(isHostname(host)).toBe(false);
  });

  it.each(["1", "0x7f000001", "127.1", "1.2.3.256", "01.2.3.4", "a.0x", "example.123"])(
    "%s is refused as a numeric address",
    (host) => {
      expect(isHostname(host)).toBe(false);
    },
  );
});

describe("host and port", () => {
  it.each([
    ["Example.com", { host: "example.com", port: null }],
    ["example.com:1", { host: "example.com", port: 1 }],
    ["127.0.0.1:65535", { host: "127.0.0.1", port: 65_535 }],
  ])("%s", (text, parsed) => {
    expect(parseHostAndPort(text)).toEqual(parsed);
  });

  it.each(["", ":80", "a:", "a:0", "a:080", "a:65536", "a:1:2", "[::1]:80", "u@a:80", "a:80/", " a:80"])(
    "%j is refused",
    (text) => {
      expect(parseHostAndPort(text)).toBeNull();
    },
  );
});
