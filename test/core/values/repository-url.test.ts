import { describe, expect, it } from "vitest";
import { SlipwayError } from "../../../src/core/error.ts";
import { parseBranch, parseRepositoryUrl } from "../../../src/core/values/repository-url.ts";
import { HOSTILE_ADDRESSES, HOSTILE_BRANCHES } from "../../support/hostile/inputs.ts";

const rules = { trustedHosts: ["127.0.0.1:8080", "git.corp.local", "gitea:3000"] };
function refusal(act: () => unknown): string {
  try {
    act();
    return "accepted";
  } catch (error) {
    return error instanceof SlipwayError ? `${error.code} ${error.message}` : String(error);
  }
}

describe("[S6] repository URLs", () => {
  for (const [item, text] of [
    ...HOSTILE_ADDRESSES,
    [18, `https://github.com/${"a/".repeat(1_000_000)}`],
    [0, ""],
  ] as const) {
    it(`refuses item ${item}: ${JSON.stringify(text.slice(0, 60))}`, () => {
      expect(refusal(() => parseRepositoryUrl(text, rules))).toMatch(
        /^invalid_repository .*https:\/\/host\/owner\/repository/s,
      );
    });
  }

  it("never repeats a token", () => {
    expect(refusal(() => parseRepositoryUrl("https://user:s3cr3t@github.com/o/r", rules))).not.toContain("s3cr3t");
  });

  it("a look-alike host is a different host, so it gets no credential of the real one", () => {
    expect(parseRepositoryUrl("https://github.com.evil.com/o/r", rules).host).toBe("github.com.evil.com");
  });

  it("are returned in canonical form", () => {
    expect(parseRepositoryUrl("HTTPS://GitHub.com:443/Owner/Repo.git/", rules)).toEqual({
      url: "https://github.com/Owner/Repo.git",
      host: "github.com",
      path: "Owner/Repo",
    });
  });

  it("trusted hosts may use plain http, private addresses and their port", () => {
    expect(parseRepositoryUrl("http://127.0.0.1:8080/demo.git", rules).host).toBe("127.0.0.1:8080");
    expect(parseRepositoryUrl("http://gitea:3000/o/r", rules).host).toBe("gitea:3000");
    expect(parseRepositoryUrl("https://git.corp.local/o/r", rules).host).toBe("git.corp.local");
  });
});

describe("[S6] branch names", () => {
  for (const name of [...HOSTILE_BRANCHES, ""]) {
    it(`refuses ${JSON.stringify(name.slice(0, 40))}`, () =>
      expect(refusal(() => parseBranch(name))).toMatch(/^invalid_branch/));
  }
  it("accepts ordinary names", () => {
    for (const name of ["main", "feature/login-form", "v1.2.x", "slipway/0abc", "a_b-c"])
      expect(parseBranch(name)).toBe(name);
  });
});
