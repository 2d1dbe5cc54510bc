/** Log-ins with a real OpenID Connect provider, through the HTTP interface. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Browser, type Page } from "./browser.ts";
import { CLIENT_ID, CLIENT_SECRET, startOidcServer, type OidcServer } from "./oidc-server.ts";
import { allowList, openRig, problemOf, type Rig } from "./rig.ts";

let oidc: OidcServer;
let rig: Rig;

beforeAll(async () => {
  oidc = await startOidcServer(() => [rig.callback("company"), rig.callback("partner")]);
  const common = { kind: "oidc", issuer: oidc.issuer, clientId: CLIENT_ID, clientSecret: CLIENT_SECRET } as const;
  rig = await openRig([
    {
      ...common,
      id: "company",
      name: "Company",
      scopes: "openid email groups",
      allow: allowList("@example.org", "org:staff"),
    },
    // The same server under another name: whatever is mixed up, its answers look right.
    { ...common, id: "partner", name: "Partner", scopes: "openid email", allow: allowList("user:nobody") },
  ]);
});
afterAll(async () => {
  await rig.close();
  await oidc.close();
});

let people = 0;
/** A person at the provider, new in each test. */
function person(claims: Readonly<Record<string, unknown>> = {}): { subject: string; email: string } {
  const subject = `person-${++people}`;
  const email = `${subject}@example.org`;
  oidc.people.set(subject, { email, email_verified: true, ...claims });
  return { subject, email };
}

/** Up to the callback, which is not opened. */
async function atCallback(browser: Browser, subject: string, query = "", id = "company"): Promise<string> {
  const page = await oidc.logIn(browser, await browser.open(rig.start(id, query)), subject, rig.callback(id));
  if (page.location === null) throw new Error(`no callback: ${page.status} ${page.text.slice(0, 500)}`);
  return page.location;
}

const logIn = async (browser: Browser, subject: string, query = ""): Promise<Page> =>
  browser.open(await atCallback(browser, subject, query));

/** A person whom a log-in made, and how their browser gets an access token. */
async function signUp(): Promise<{ identity: string; renew: () => Promise<string> }> {
  const browser = new Browser();
  const { subject } = person();
  await logIn(browser, subject);
  const cookie = `slipway=${browser.cookie(rig.base, "slipway")!}`;
  const renew = async (): Promise<string> =>
    (await rig.api.call("POST", "/v1/session/refresh", { headers: { cookie } })).body.accessToken as string;
  return { identity: (await rig.api.accounts.identity(oidc.issuer, subject))!.id, renew };
}

const userCount = async (): Promise<number> => (await rig.api.accounts.users()).length;

describe("a log-in", () => {
  it("[H1] ends in the app with the browser's session, where it began", async () => {
    const { subject, email } = person();
    const browser = new Browser();
    const end = await logIn(browser, subject, "?next=/tasks/task_1");
    expect(end.location).toBe(`${rig.base}/tasks/task_1#session`);
    expect(await rig.whoIs(browser)).toBe(email);
    expect(browser.cookie(rig.base, "slipway-login")).toBeNull();
    const user = await rig.api.accounts.login(email);
    expect(user).toMatchObject({ role: "user", passwordHash: null });
    expect(await rig.api.accounts.identities(user!.id)).toMatchObject([{ issuer: oidc.issuer, subject }]);
  });

  it("[H2] finds its account by the subject, whatever the e-mail has become", async () => {
    const { subject, email } = person();
    await logIn(new Browser(), subject);
    oidc.people.set(subject, { email: "married@example.org", email_verified: true });
    const browser = new Browser();
    await logIn(browser, subject);
    expect(await rig.whoIs(browser)).toBe(email);
    expect(await rig.api.accounts.login("married@example.org")).toBeNull();
  });

  it.each([
    ["somebody who is not on the allow-list", { email: "eve@example.com" }, "not_allowed"],
    ["a domain that only ends like an allowed one", { email: "eve@evil-example.org" }, "not_allowed"],
    ["a domain under an allowed one", { email: "eve@sub.example.org" }, "not_allowed"],
    ["an allowed domain before another @", { email: '"eve@example.org"@evil.example' }, "unverified_email"],
    ["an e-mail that is not verified", { email_verified: false }, "unverified_email"],
    ["an e-mail whose verification is a text", { email_verified: "true" }, "unverified_email"],
    ["no e-mail", { email: undefined }, "unverified_email"],
    ["a group without a verified e-mail", { email_verified: false, groups: ["staff"] }, "unverified_email"],
  ])("[H2] %s gets no account", async (_name, claims, problem) => {
    const { subject } = person(claims);
    const before = await userCount();
    const browser = new Browser();
    expect(problemOf(await logIn(browser, subject))).toBe(problem);
    expect(browser.cookie(rig.base, "slipway")).toBeNull();
    expect(await userCount()).toBe(before);
  });

  it("[H2] a member of an allowed group gets one", async () => {
    const { subject } = person({ email: `member-${people}@elsewhere.example`, groups: ["Staff"] });
    const browser = new Browser();
    await logIn(browser, subject);
    expect(await rig.whoIs(browser)).toMatch(/^member-/);
  });

  it("[H2] who leaves the allow-list does not come in again", async () => {
    const { subject } = person();
    await logIn(new Browser(), subject);
    oidc.people.set(subject, { email: "gone@example.com", email_verified: true });
    expect(problemOf(await logIn(new Browser(), subject))).toBe("not_allowed");
  });

  it("[H2] an e-mail that equals an account's opens nothing", async () => {
    const owner = person();
    await rig.api.person(owner.email);
    const browser = new Browser();
    expect(problemOf(await logIn(browser, owner.subject))).toBe("email_taken");
    expect(browser.cookie(rig.base, "slipway")).toBeNull();
    const upper = person({ email: owner.email.toUpperCase() });
    expect(problemOf(await logIn(new Browser(), upper.subject))).toBe("email_taken");
  });

  it("[H5] a disabled person does not come in", async () => {
    const { subject, email } = person();
    await logIn(new Browser(), subject);
    await rig.api.accounts.changeUser((await rig.api.accounts.login(email))!.id, { disabledAt: 1 });
    expect(problemOf(await logIn(new Browser(), subject))).toBe("disabled");
  });
});

describe("attacks on the callback", () => {
  it("[H1] a callback is good once, and in the browser that began", async () => {
    const { subject } = person();
    const browser = new Browser();
    const callback = await atCallback(browser, subject);
    const sealed = browser.cookie(rig.base, "slipway-login")!;
    expect(problemOf(await new Browser().open(callback))).toBe("expired");
    expect(problemOf(await browser.open(callback))).toBeNull();
    const thief = new Browser();
    thief.setCookie(rig.base, "slipway-login", sealed);
    expect(problemOf(await thief.open(callback))).toBe("expired");
    expect(thief.cookie(rig.base, "slipway")).toBeNull();
  });

  it("[H1] a foreign state, a missing one and a changed cookie are refused before the provider is asked", async () => {
    const callback = new URL(await atCallback(new Browser(), person().subject));
    const victim = new Browser();
    await victim.open(rig.start("company"));
    const sealed = victim.cookie(rig.base, "slipway-login")!;
    for (const change of ["keep", "drop", "guess"]) {
      const url = new URL(callback);
      if (change === "drop") url.searchParams.delete("state");
      if (change === "guess") url.searchParams.set("state", "x".repeat(43));
      victim.setCookie(rig.base, "slipway-login", sealed);
      expect(problemOf(await victim.open(url.href)), change).toBe("expired");
    }
    for (const cookie of ["", "x", `${sealed}A`, sealed.slice(0, -4), "__proto__"]) {
      victim.setCookie(rig.base, "slipway-login", cookie);
      expect(problemOf(await victim.open(callback.href)), cookie).toBe("expired");
    }
    expect(victim.cookie(rig.base, "slipway")).toBeNull();
  });

  it("[H1] somebody else's code under one's own state is refused: the verifier does not fit", async () => {
    const stolen = new URL(await atCallback(new Browser(), person().subject)).searchParams.get("code")!;
    const thief = new Browser();
    const own = new URL(await atCallback(thief, person().subject));
    own.searchParams.set("code", stolen);
    expect(problemOf(await thief.open(own.href))).toBe("expired");
    expect(thief.cookie(rig.base, "slipway")).toBeNull();
  });

  it("[H1] an answer for one provider is refused at another's callback", async () => {
    const { subject } = person();
    const browser = new Browser();
    const mixed = (await atCallback(browser, subject)).replace("/company/", "/partner/");
    expect(problemOf(await browser.open(mixed))).toBe("expired");
  });

  it("[H1] an answer that names another issuer is refused", async () => {
    const browser = new Browser();
    const url = new URL(await atCallback(browser, person().subject));
    expect(url.searchParams.get("iss")).toBe(oidc.issuer);
    url.searchParams.set("iss", "https://evil.example");
    expect(problemOf(await browser.open(url.href))).toBe("not_proved");
    const again = new Browser();
    const without = new URL(await atCallback(again, person().subject));
    without.searchParams.delete("iss");
    expect(problemOf(await again.open(without.href))).toBe("not_proved");
  });

  it("[H1] ten minutes after the start it is too late", async () => {
    const browser = new Browser();
    const callback = await atCallback(browser, person().subject);
    await rig.api.clock.advance(10 * 60_000);
    expect(problemOf(await browser.open(callback))).toBe("expired");
  });

  it("[H1] a person who declines is told so", async () => {
    const browser = new Browser();
    const started = await browser.open(rig.start("company"));
    const state = new URL(started.location!).searchParams.get("state")!;
    const iss = encodeURIComponent(oidc.issuer);
    const answer = `${rig.callback("company")}?error=access_denied&state=${state}&iss=${iss}`;
    expect(problemOf(await browser.open(answer))).toBe("denied");
  });

  it("[H1] the redirect is the configured one, whatever the request says, and the provider takes no other", async () => {
    const response = await fetch(rig.start("company"), {
      redirect: "manual",
      headers: { "x-forwarded-host": "evil.example", forwarded: "host=evil.example" },
    });
    const target = new URL(response.headers.get("location")!);
    expect(target.searchParams.get("redirect_uri")).toBe(rig.callback("company"));
    expect(target.searchParams.get("code_challenge_method")).toBe("S256");
    expect(target.searchParams.get("nonce")).toHaveLength(43);
    for (const uri of [
      `${rig.callback("company")}/x`,
      "https://evil.example/",
      rig.callback("company").replace("http", "HTTP"),
    ]) {
      target.searchParams.set("redirect_uri", uri);
      const page = await new Browser().open(target.href);
      expect([page.status, page.location]).toEqual([400, null]);
    }
  });

  it("[S6] an end outside of this server is refused", async () => {
    for (const next of ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb"]) {
      const answer = await rig.api.call("GET", `/v1/auth/oauth/company/start?next=${encodeURIComponent(next)}`);
      expect([answer.status, answer.body.code], next).toEqual([400, "invalid_request"]);
    }
    expect((await rig.api.call("GET", "/v1/auth/oauth/unknown/start")).status).toBe(404);
    expect((await rig.api.call("GET", "/v1/auth/oauth/unknown/callback?code=x&state=y")).status).toBe(404);
  });
});

describe("linking", () => {
  it("[H3] a fresh log-in links a provider, logs in with it, and unlinks it", async () => {
    const { subject, email } = person({ email: "somebody@elsewhere.example", groups: ["staff"] });
    await rig.api.person(email);
    const browser = new Browser();
    const token = await rig.logIn(browser, email);
    expect((await logIn(browser, subject, "?link=true")).location).toBe(`${rig.base}/you`);
    const other = new Browser();
    await logIn(other, subject);
    expect(await rig.whoIs(other)).toBe(email);
    const list = await rig.api.call("GET", "/v1/me/identities", { token });
    expect(list.body.items).toMatchObject([{ provider: "company", issuer: oidc.issuer }]);
    const path = `/v1/me/identities/${list.body.items[0].id}`;
    await rig.api.clock.advance(9.9 * 60_000);
    expect((await rig.api.call("DELETE", path, { token })).status).toBe(204);
    const unlinked = new Browser();
    await logIn(unlinked, subject);
    expect(await rig.whoIs(unlinked)).toBe("somebody@elsewhere.example");
  });

  it("[H3] an older session links nothing, and unlinks nothing", async () => {
    const { email } = person();
    await rig.api.person(email);
    const browser = new Browser();
    await rig.logIn(browser, email);
    await rig.api.clock.advance(10 * 60_000);
    const page = await browser.open(rig.start("company", "?link=true"));
    expect(page.location).toBe(`${rig.base}/you?problem=fresh_login_required`);
    const { identity, renew } = await signUp();
    await rig.api.clock.advance(10 * 60_000);
    const old = await rig.api.call("DELETE", `/v1/me/identities/${identity}`, { token: await renew() });
    expect(old.body.code).toBe("fresh_login_required");
  });

  it("[H3] the only way to log in stays", async () => {
    const { identity, renew } = await signUp();
    const only = await rig.api.call("DELETE", `/v1/me/identities/${identity}`, { token: await renew() });
    expect(only.body.code).toBe("conflict");
  });

  it("[H3] an identity of another account is not taken over, and the session that asked must live", async () => {
    const owner = person();
    await logIn(new Browser(), owner.subject);
    const thief = person();
    await rig.api.person(thief.email);
    const browser = new Browser();
    await rig.logIn(browser, thief.email);
    const end = await logIn(browser, owner.subject, "?link=true");
    expect(end.location).toBe(`${rig.base}/you?problem=linked_elsewhere`);
    const late = new Browser();
    const token = await rig.logIn(late, thief.email);
    const callback = await atCallback(late, thief.subject, "?link=true");
    await rig.api.call("DELETE", "/v1/session", { token });
    expect(problemOf(await late.open(callback))).toBe("expired");
  });

  it("[H3] another site cannot begin to link, and without the cookie nobody can", async () => {
    const { email } = person();
    await rig.api.person(email);
    const browser = new Browser();
    await rig.logIn(browser, email);
    const cookie = `slipway=${browser.cookie(rig.base, "slipway")!}`;
    const path = "/v1/auth/oauth/company/start?link=true";
    const foreign = await rig.api.call("GET", path, { headers: { cookie, "sec-fetch-site": "cross-site" } });
    expect([foreign.status, foreign.body.code]).toEqual([403, "forbidden"]);
    expect((await rig.api.call("GET", path)).status).toBe(401);
  });
});
