/** Log-ins with a provider that lies, and with GitHub's OAuth as GitHub checks it. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Browser, type Page } from "./browser.ts";
import { allowList, openRig, problemOf, type Rig } from "./rig.ts";
import { CLIENT, startStrictProvider, type Lies, type StrictProvider } from "./strict-provider.ts";

let provider: StrictProvider;
let rig: Rig;

beforeAll(async () => {
  provider = await startStrictProvider();
  const client = { clientId: CLIENT.id, clientSecret: CLIENT.secret };
  const allow = allowList("@example.org", "org:acme", "user:friend");
  const oidc = { kind: "oidc", issuer: provider.url, scopes: "openid email", allow, ...client } as const;
  rig = await openRig([
    { ...oidc, id: "strict", name: "Strict" },
    { ...oidc, id: "fresh", name: "Fresh" },
    { kind: "github", url: provider.url, apiUrl: `${provider.url}/api/v3`, allow, ...client },
  ]);
});
afterAll(async () => {
  await rig.close();
  await provider.close();
});

let people = 0;
beforeEach(() => {
  const n = ++people;
  provider.lies = {};
  provider.person = {
    id: n,
    login: `user${n}`,
    emails: [{ email: `user${n}@example.org`, primary: true, verified: true }],
  };
});

async function logIn(id: string, browser = new Browser()): Promise<Page> {
  const page = await browser.follow(await browser.open(rig.start(id)), rig.callback(id));
  return browser.open(page.location ?? "");
}

async function enters(id: string): Promise<string | null> {
  const browser = new Browser();
  const problem = problemOf(await logIn(id, browser));
  if (problem !== null) expect(browser.cookie(rig.base, "slipway")).toBeNull();
  return problem ?? rig.whoIs(browser);
}

describe("an ID token", () => {
  it("[H1] that is true lets its person in", async () => {
    expect(await enters("strict")).toBe(provider.person.emails![0]!.email);
    expect(provider.complaints).toEqual([]);
  });

  const now = Math.floor(Date.now() / 1_000);
  it.each<[string, Lies]>([
    ["of another issuer", { issuer: "https://evil.example" }],
    ["for another client", { claims: { aud: "another" } }],
    ["for several clients, without a word for whom", { claims: { aud: ["another", CLIENT.id], azp: "another" } }],
    ["that was made for another client", { claims: { azp: "another" } }],
    ["with another log-in's nonce", { claims: { nonce: "x".repeat(43) } }],
    ["without a nonce", { claims: { nonce: undefined } }],
    ["that has expired", { claims: { iat: now - 7_200, exp: now - 3_600 } }],
    ["of the future", { claims: { iat: now + 3_600, nbf: now + 3_600, exp: now + 7_200 } }],
    ["without a subject", { claims: { sub: undefined } }],
    ["whose subject is a number", { claims: { sub: 7 } }],
    ["signed with another key", { signWith: "other" }],
    ["without a signature", { signWith: "nothing" }],
    ["without an algorithm", { signWith: "nothing", header: { alg: "none" } }],
    ["with a symmetric algorithm", { header: { alg: "HS256" } }],
    ["that brings its own key", { signWith: "other", header: { kid: "other", jwk: {} } }],
    ["that does not come", { withoutIdToken: true }],
  ])("[H1] %s lets nobody in", async (_name, lies) => {
    provider.lies = lies;
    const before = (await rig.api.accounts.users()).length;
    expect(await enters("strict")).toBe("not_proved");
    expect((await rig.api.accounts.users()).length).toBe(before);
  });

  it("[H1] with the claims of somebody else lets nobody in", async () => {
    provider.lies = { userinfoSubject: "victim" };
    expect(await enters("strict")).toBe("not_proved");
  });

  it("[H1] metadata of another issuer is not used, and good metadata is read again", async () => {
    provider.lies = { metadataIssuer: "https://evil.example" };
    const browser = new Browser();
    expect(problemOf(await browser.open(rig.start("fresh")))).toBe("provider_failed");
    provider.lies = {};
    expect(await enters("fresh")).toBe(provider.person.emails![0]!.email);
  });

  it("[H1] a provider that is gone is told so, and the server goes on", async () => {
    const gone = await startStrictProvider();
    const { url } = gone;
    await gone.close();
    const client = { clientId: CLIENT.id, clientSecret: CLIENT.secret, allow: allowList() };
    const alone = await openRig([
      { kind: "oidc", id: "gone", name: "Gone", issuer: url, scopes: "openid", ...client },
      { kind: "github", url, apiUrl: url, ...client },
    ]);
    try {
      expect(problemOf(await new Browser().open(alone.start("gone")))).toBe("provider_failed");
      const browser = new Browser();
      const target = new URL((await browser.open(alone.start("github"))).location!);
      const answer = `${alone.callback("github")}?code=x&state=${target.searchParams.get("state")!}`;
      expect(problemOf(await browser.open(answer))).toBe("provider_failed");
      expect((await alone.api.call("GET", "/v1/auth/providers")).body.items).toHaveLength(2);
    } finally {
      await alone.close();
    }
  });
});

describe("GitHub", () => {
  it("[H1] gets PKCE, the exact redirect and a one-time code, and lets in a verified person", async () => {
    const browser = new Browser();
    const page = await browser.follow(await browser.open(rig.start("github")), rig.callback("github"));
    expect((await browser.open(page.location!)).location).toBe(`${rig.base}/#session`);
    expect(await rig.whoIs(browser)).toBe(provider.person.emails![0]!.email);
    expect(provider.complaints).toEqual([]);
    const thief = new Browser();
    const own = new URL((await thief.follow(await thief.open(rig.start("github")), rig.callback("github"))).location!);
    own.searchParams.set("code", new URL(page.location!).searchParams.get("code")!);
    expect(problemOf(await thief.open(own.href))).toBe("expired");
  });

  it.each([
    ["bad_verification_code", "expired"],
    ["incorrect_client_credentials", "misconfigured"],
    ["redirect_uri_mismatch", "misconfigured"],
    ["application_suspended", "misconfigured"],
    ["something_new", "provider_failed"],
  ])("[H1] its answer 200 with the error %s is a refusal, and the operator's log says so", async (error, problem) => {
    provider.lies = { tokenError: error };
    expect(await enters("github")).toBe(problem);
    const line = rig.api.lines.findLast(({ text }) => text === "a log-in with a provider was refused");
    expect(line?.fields).toMatchObject({ provider: "github", problem, error: `${error}: No.` });
    expect(JSON.stringify(rig.api.lines)).not.toContain(CLIENT.secret);
  });

  it.each([
    ["an e-mail that is not verified", [{ email: "a@example.org", primary: true, verified: false }]],
    ["a verified e-mail that is not the primary one", [{ email: "a@example.org", primary: false, verified: true }]],
    ["only a public e-mail", []],
  ])("[H2] %s makes no account", async (_name, emails) => {
    provider.person = { ...provider.person, emails };
    expect(await enters("github")).toBe("unverified_email");
  });

  it("[H2] a login that somebody else has now is somebody else", async () => {
    const emails = [{ email: "friend@elsewhere.example", primary: true, verified: true }];
    provider.person = { id: 1_000, login: "Friend", emails };
    expect(await enters("github")).toBe("friend@elsewhere.example");
    provider.person = { id: 1_001, login: "friend", emails };
    expect(await enters("github")).toBe("email_taken");
    provider.person = { id: 1_000, login: "renamed", emails: [{ ...emails[0]!, email: "renamed@example.org" }] };
    expect(await enters("github")).toBe("friend@elsewhere.example");
  });

  it("[H2] a member of an allowed organisation comes in, a member of one that is named similarly does not", async () => {
    const emails = [{ email: `m${people}@elsewhere.example`, primary: true, verified: true }];
    provider.person = { ...provider.person, emails, orgs: ["acme-evil", "acm"] };
    expect(await enters("github")).toBe("not_allowed");
    provider.person = { ...provider.person, orgs: ["Acme"] };
    expect(await enters("github")).toBe(emails[0]!.email);
  });

  it("[H1] an API that refuses lets nobody in", async () => {
    provider.lies = { apiStatus: 403 };
    expect(await enters("github")).toBe("provider_failed");
  });
});
