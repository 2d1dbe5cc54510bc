import { describe, expect, it } from "vitest";
import { parseAllowList, type ProviderPerson } from "../../../src/auth/providers/allow-list.ts";
import { readProviderSettings as readSettings } from "../../../src/auth/providers/settings.ts";

const ADDRESS = { githubUrl: "https://github.com", githubApiUrl: "https://api.github.com" };
const readProviderSettings = (env: Record<string, string>, address = ADDRESS) => readSettings(env, address);
const GITHUB = { SLIPWAY_GITHUB_CLIENT_ID: "id", SLIPWAY_GITHUB_CLIENT_SECRET: "secret" };
const OIDC = {
  SLIPWAY_OIDC_MY_IDP_ISSUER: "https://id.example.org/realms/x/",
  SLIPWAY_OIDC_MY_IDP_CLIENT_ID: "id",
  SLIPWAY_OIDC_MY_IDP_CLIENT_SECRET: "secret",
};

describe("the settings of providers", () => {
  it("none is the default, and every one is read", () => {
    expect(readProviderSettings({ SLIPWAY_OIDC_X_ISSUER: " ", SLIPWAY_GITHUB_ALLOW: "org:acme" })).toEqual([]);
    const [github, company] = readProviderSettings({ ...GITHUB, ...OIDC, SLIPWAY_GITHUB_ALLOW: "org:acme, @a.org" });
    expect(github).toMatchObject({ kind: "github", url: "https://github.com", apiUrl: "https://api.github.com" });
    expect(github?.allow).toMatchObject({ isEmpty: false, needsOrganisations: true });
    expect(company).toMatchObject({
      kind: "oidc",
      id: "my-idp",
      name: "My idp",
      issuer: "https://id.example.org/realms/x/",
      scopes: "openid email profile",
      allow: { isEmpty: true },
    });
  });

  it("GitHub is asked for log-ins over https only, also where it is trusted as a git host", () => {
    const http = { githubUrl: "http://git.acme.example", githubApiUrl: "http://git.acme.example/api/v3" };
    expect(readProviderSettings(OIDC, http)).toHaveLength(1);
    expect(() => readProviderSettings(GITHUB, http)).toThrow(/SLIPWAY_GITHUB_URL must be an https address/);
    const api = { ...ADDRESS, githubApiUrl: http.githubApiUrl };
    expect(() => readProviderSettings(GITHUB, api)).toThrow(/SLIPWAY_GITHUB_API_URL must be an https address/);
  });

  it.each([
    [
      { SLIPWAY_GITHUB_CLIENT_ID: "id" },
      /SLIPWAY_GITHUB_CLIENT_ID and SLIPWAY_GITHUB_CLIENT_SECRET must be set together/,
    ],
    [{ ...GITHUB, SLIPWAY_GITHUB_ALLOW: "*" }, /SLIPWAY_GITHUB_ALLOW must be a comma-separated list/],
    [{ ...GITHUB, SLIPWAY_GITHUB_ALLOW: "octocat" }, /SLIPWAY_GITHUB_ALLOW must be/],
    [{ ...OIDC, SLIPWAY_OIDC_MY_IDP_CLIENT_SECRET: "" }, /SLIPWAY_OIDC_MY_IDP_CLIENT_SECRET must be set/],
    [{ ...OIDC, SLIPWAY_OIDC_MY_IDP_ISSUER: "ftp://x" }, /SLIPWAY_OIDC_MY_IDP_ISSUER must be an https address/],
    [{ ...OIDC, SLIPWAY_OIDC_MY_IDP_SCOPES: "email" }, /SLIPWAY_OIDC_MY_IDP_SCOPES must be a list of scopes/],
    [{ SLIPWAY_OIDC_Y_ALLOW: "@a.org" }, /SLIPWAY_OIDC_Y_ISSUER must be set/],
  ])("a wrong one is one sentence with its name: %j", (env, message) => {
    expect(() => readProviderSettings(env)).toThrow(message);
  });

  it("a provider that is called GitHub is refused beside GitHub", () => {
    const both = { ...GITHUB, SLIPWAY_OIDC_GITHUB_ISSUER: "https://x.example", SLIPWAY_OIDC_GITHUB_CLIENT_ID: "a" };
    expect(() => readProviderSettings({ ...both, SLIPWAY_OIDC_GITHUB_CLIENT_SECRET: "b" })).toThrow(/another name/);
  });
});

describe("an allow-list", () => {
  const person: ProviderPerson = {
    subject: "1",
    name: "ann",
    userNames: ["Ann", "1"],
    email: "ann@example.org",
    organisations: ["Acme"],
  };
  it.each([
    ["ann@example.org", true],
    ["@example.org", true],
    ["user:ann", true],
    ["user:1", true],
    ["org:acme", true],
    ["@ample.org", false],
    ["@sub.example.org", false],
    ["user:an", false],
    ["user:ann@example.org", false],
    ["org:acm", false],
  ])("[H2] %s: %s", (entry, allowed) => {
    expect(parseAllowList([entry])?.allows(person)).toBe(allowed);
  });

  it("[H2] an entry that is none is refused, not ignored", () => {
    for (const entry of ["", "@", "@org", "*", "user:", "a b", "org:a,b", "example.org", "ann@"])
      expect(parseAllowList([entry]), entry).toBeNull();
  });
});
