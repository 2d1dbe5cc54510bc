import { describe, expect, it } from "vitest";
import {
  DEFAULT_HOSTS,
  explainRefusal,
  parseEndpoint,
  parseEndpoints,
} from "../../../src/core/values/egress-policy.ts";

describe("[S5] [S6] an endpoint is host:port and nothing else", () => {
  it.each(["registry.npmjs.org:443", "a:1", "xn--bcher-kva.example:8080", "10.0.0.1:80", "A.Example.COM:443"])(
    "%s",
    (text) => {
      expect(parseEndpoint(text)).toBe(text.toLowerCase());
    },
  );

  it.each([
    "registry.npmjs.org",
    "registry.npmjs.org:0",
    "registry.npmjs.org:65536",
    "registry.npmjs.org:0443",
    "registry.npmjs.org.:443",
    "user@registry.npmjs.org:443",
    "*.npmjs.org:443",
    "registry npmjs.org:443",
    "registry.npmjs.org:443/x",
    "http://registry.npmjs.org:443",
    "[::1]:443",
    "::1:443",
    "2130706433:443",
    "0x7f.1:443",
    "127.1:443",
    "256.0.0.1:443",
    "bücher.example:443",
    "a..b:443",
    "-a.example:443",
    "a\r\nhost: b:443",
    "",
  ])("%j is refused", (text) => {
    expect(parseEndpoint(text)).toBeNull();
  });

  it("the shipped list is valid and has no duplicates", () => {
    expect(parseEndpoints(DEFAULT_HOSTS)).toHaveLength(DEFAULT_HOSTS.length);
    expect(() => parseEndpoints(["registry.npmjs.org:443", "*.evil:443"])).toThrow(/host:port/);
  });

  it("a refusal explains what to do", () => {
    expect(explainRefusal({ egress: "none", hosts: new Set(["a:1"]) }, "a:1")).toMatch(/--egress allowlist/);
    expect(explainRefusal({ egress: "allowlist", hosts: new Set(["a:1"]) }, "a:2")).toMatch(/slipway egress allow a:2/);
    expect(explainRefusal({ egress: "allowlist", hosts: new Set(["a:1"]) }, "a:1")).toBeNull();
    expect(explainRefusal({ egress: "open", hosts: new Set() }, "b:1")).toBeNull();
  });
});
