import { describe, expect, it } from "vitest";
import { SlipwayError } from "../src/error.ts";
import { parseBranch, parseRepository } from "../src/repo-address.ts";

const rules = { trustedHosts: ["127.0.0.1:8080", "git.corp.local", "gitea:3000"] };
function refusal(act: () => unknown): string {
  try {
    act();
    return "accepted";
  } catch (error) {
    return error instanceof SlipwayError ? `${error.code} ${error.message}` : String(error);
  }
}

describe("[S6] addresses of repositories", () => {
  const bad: readonly (readonly [number, string])[] = [
    [1, "ext::sh -c touch% /tmp/x"],
    [2, "--upload-pack=touch /tmp/x"],
    [3, "-uhttps://github.com/o/r"],
    [4, "file:///etc"],
    [5, "/srv/repos/x"],
    [6, "git@github.com:o/r"],
    [7, "ssh://-oProxyCommand=touch/o/r"],
    [8, "fd::0/x"],
    [8, "git://h/r"],
    [9, "http://github.com/o/r"],
    [10, "https://169.254.169.254/o/r"],
    [11, "https://[::1]/o/r"],
    [11, "https://[::ffff:127.0.0.1]/o/r"],
    [12, "https://2130706433/o/r"],
    [12, "https://0x7f.1/o/r"],
    [12, "https://0177.0.0.1/o/r"],
    [12, "https://127.1/o/r"],
    [13, "https://github.com@evil.com/o/r"],
    [14, "https://user:tok@github.com/o/r"],
    [15, "https://github.com./o/r"],
    [15, "https://GITHUB.com:444/o/r"],
    [16, "https://github.com/o/r/../../x"],
    [16, "https://github.com/%2e%2e/r"],
    [16, "https://github.com/o%2fr"],
    [16, "https://github.com//o/r"],
    [17, "https://gіthub.com/o/r"],
    [17, "https://xn--gthub-3ya.com/o/r"],
    [17, "https://github.com/o/r\t"],
    [17, "https://github.com/o\r\n/r"],
    [17, "https://github.com/o\0/r"],
    [18, `https://github.com/${"a/".repeat(1_000_000)}`],
    [19, "https://localhost/o/r"],
    [19, "https://printer.local/o/r"],
    [19, "https://metadata.google.internal/x"],
    [0, "https://github.com/"],
    [0, "https://github.com"],
    [0, "https:///o/r"],
    [0, "https://github.com/o/r?x=1"],
    [0, "https://github.com/o/r#x"],
    [0, "https://github.com\\@evil.com/o/r"],
    [0, "https://127.0.0.1:8081/o/r"],
    [0, ""],
  ];
  for (const [item, text] of bad) {
    it(`refuses item ${item}: ${JSON.stringify(text.slice(0, 60))}`, () => {
      expect(refusal(() => parseRepository(text, rules))).toMatch(/^invalid_repository .*https:\/\/host\/owner\/repository/s);
    });
  }

  it("never repeats a token", () => {
    expect(refusal(() => parseRepository("https://user:s3cr3t@github.com/o/r", rules))).not.toContain("s3cr3t");
  });

  it("a look-alike host is a host of its own: no credential of the real one goes there", () => {
    expect(parseRepository("https://github.com.evil.com/o/r", rules).host).toBe("github.com.evil.com");
  });

  it("canonicalises", () => {
    expect(parseRepository("HTTPS://GitHub.com:443/Owner/Repo.git/", rules)).toEqual({
      url: "https://github.com/Owner/Repo.git",
      host: "github.com",
      path: "Owner/Repo",
    });
  });

  it("trusted hosts may be plain, private and on their port", () => {
    expect(parseRepository("http://127.0.0.1:8080/demo.git", rules).host).toBe("127.0.0.1:8080");
    expect(parseRepository("http://gitea:3000/o/r", rules).host).toBe("gitea:3000");
    expect(parseRepository("https://git.corp.local/o/r", rules).host).toBe("git.corp.local");
  });
});

describe("[S6] names of branches", () => {
  const bad = [
    "-d",
    "--force",
    "a..b",
    "x.lock",
    "a b",
    "a~1",
    "a^",
    "a:b",
    "a*",
    "a?",
    "a[",
    "a\\",
    "@{",
    ".x",
    "a//b",
    "a/",
    "/a",
    "HEAD",
    "$(id)",
    "`id`",
    "a;id",
    "@",
    "a\nb",
    "x".repeat(300),
    "e\u0301",
    "refs/heads/main",
    "",
    "a/.b",
    "a.lock/b",
    "a.",
    "0".repeat(40),
  ];
  for (const name of bad) {
    it(`refuses ${JSON.stringify(name.slice(0, 40))}`, () => expect(refusal(() => parseBranch(name))).toMatch(/^invalid_branch/));
  }
  it("takes ordinary names", () => {
    for (const name of ["main", "feature/login-form", "v1.2.x", "slipway/0abc", "a_b-c"]) expect(parseBranch(name)).toBe(name);
  });
});
