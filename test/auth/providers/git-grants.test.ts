/** What people granted at GitHub, as their git credential: asked for, sealed, renewed, revoked. */
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { findGitAuth } from "../../../src/app/secrets.ts";
import { GitGrants } from "../../../src/auth/providers/git-grants.ts";
import { openGithubProvider, type GithubSettings } from "../../../src/auth/providers/github.ts";
import type { GitGrant } from "../../../src/auth/providers/provider.ts";
import { credentialContext, openVault } from "../../../src/auth/vault.ts";
import { openMemoryStore } from "../../../src/store/memory/store.ts";
import { createManualClock, seededIds } from "../../support/manual-clock.ts";
import { Browser, type Page } from "./browser.ts";
import { allowList, openRig, problemOf, type Rig } from "./rig.ts";
import { CLIENT, startStrictProvider, type StrictProvider } from "./strict-provider.ts";

const MINUTE = 60_000;
let provider: StrictProvider;
let settings: GithubSettings;
let host: string;
let people = 0;

beforeAll(async () => {
  provider = await startStrictProvider();
  host = new URL(provider.url).host;
  const client = { clientId: CLIENT.id, clientSecret: CLIENT.secret };
  settings = { kind: "github", url: provider.url, apiUrl: `${provider.url}/api/v3`, allow: allowList(), ...client };
});
afterAll(() => provider.close());
beforeEach(() => {
  people += 1;
  provider.lies = {};
  provider.person = { id: people, login: `user${people}` };
  provider.issued.length = 0;
  provider.revoked.length = 0;
});

describe("over the wire", () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await openRig([settings]);
  });
  afterAll(() => rig.close());

  async function openPerson() {
    const email = `ann${people}@example.org`;
    const { userId } = await rig.api.person(email);
    const browser = new Browser();
    return { userId, browser, token: await rig.logIn(browser, email) };
  }

  async function grant(browser: Browser, query = "?link=true&git=true"): Promise<{ asked: string; page: Page }> {
    const first = await browser.open(rig.start("github", query));
    const asked = new URL(first.location ?? "").searchParams.get("scope") ?? "";
    const back = await browser.follow(first, rig.callback("github"));
    return { asked, page: await browser.open(back.location ?? "") };
  }

  const find = (userId: string) => findGitAuth({ ...rig.api, log: console }, userId, host);

  it("[H3] a person grants it by linking, it is sealed, and it is what the git host is shown", async () => {
    const { userId, browser, token } = await openPerson();
    const { asked, page } = await grant(browser);
    expect([asked.split(" "), page.location]).toEqual([expect.arrayContaining(["repo"]), `${rig.base}/you`]);
    const [access = ""] = provider.issued;
    expect(await find(userId)).toEqual({ username: "x-access-token", token: access });
    const listed = await rig.api.call("GET", "/v1/credentials", { token });
    expect(listed.body.items).toMatchObject([{ host, check: { result: "passed", account: `user${people}` } }]);
    expect(listed.body.items[0].check.scopes).toContain("repo");
    expect(listed.text + JSON.stringify(await rig.api.accounts.credentials(userId))).not.toContain(access);
    expect(provider.complaints).toEqual([]);
  });

  it("[H3] nothing is granted by a log-in, by linking alone, or when the person took the scope away", async () => {
    const { userId, browser } = await openPerson();
    const linked = await grant(browser, "?link=true");
    expect([linked.asked.includes("repo"), await find(userId)]).toEqual([false, null]);
    expect((await grant(new Browser(), "?git=true")).asked).not.toContain("repo");
    expect(await find(userId)).toBe(null);
    provider.lies = { grantedScope: "read:user,user:email" };
    expect(problemOf((await grant(browser)).page)).toBe("denied");
    expect(await find(userId)).toBe(null);
    const stranger = await new Browser().open(rig.start("github", "?link=true&git=true"));
    expect([stranger.status, stranger.location]).toEqual([401, null]);
  });

  it.each(["unlinking", "deletion of the credential"])("[H3] %s takes it back at GitHub", async (how) => {
    const { userId, browser, token } = await openPerson();
    await grant(browser);
    const path = how === "unlinking" ? "/v1/me/identities" : "/v1/credentials";
    const [row] = (await rig.api.call("GET", path, { token })).body.items as { id: string }[];
    expect((await rig.api.call("DELETE", `${path}/${row!.id}`, { token })).status).toBe(204);
    expect(provider.revoked).toEqual([{ what: "grant", token: provider.issued[0] }]);
    expect(await find(userId)).toBe(null);
  });

  it("[H3] GitHub that does not answer keeps nobody from unlinking; a token of one's own is left alone", async () => {
    const { userId, browser, token } = await openPerson();
    await grant(browser);
    provider.lies = { apiStatus: 500 };
    const [row] = (await rig.api.call("GET", "/v1/me/identities", { token })).body.items as { id: string }[];
    expect((await rig.api.call("DELETE", `/v1/me/identities/${row!.id}`, { token })).status).toBe(204);
    expect(await find(userId)).toBe(null);
    expect(rig.api.lines.map(({ text }) => text)).toContainEqual(expect.stringContaining("could not be revoked"));
    provider.lies = {};
    await grant(browser, "?link=true");
    const own = { host, kind: "token", token: "ghp_own", check: false };
    expect((await rig.api.call("POST", "/v1/credentials", { token, body: own })).status).toBe(201);
    const [again] = (await rig.api.call("GET", "/v1/me/identities", { token })).body.items as { id: string }[];
    expect((await rig.api.call("DELETE", `/v1/me/identities/${again!.id}`, { token })).status).toBe(204);
    expect([await find(userId), provider.revoked]).toEqual([{ username: "x-access-token", token: "ghp_own" }, []]);
  });
});

describe("a grant that ends by itself", () => {
  const USER = "user_a";

  async function open() {
    const { accounts, keys } = openMemoryStore();
    const [clock, vault] = [createManualClock(), openVault(randomBytes(32))];
    const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
    const github = openGithubProvider(settings, () => clock.now());
    const grants = new GitGrants({ providers: [github], accounts, keys, vault, clock, ids: seededIds(1), log });
    const user = { id: USER, email: "a@example.org", passwordHash: null, role: "user", createdAt: 0 } as const;
    await accounts.createUser({ ...user, disabledAt: null });
    provider.lies = { expiring: true };
    const first = await begin(github);
    await grants.save(USER, github.git!, first, "ann");
    const token = async () => (await findGitAuth({ accounts, grants, vault, log, clock }, USER, host))?.token;
    return { accounts, keys, clock, vault, grants, first, token };
  }

  /** As the callback does it. */
  async function begin(github: ReturnType<typeof openGithubProvider>): Promise<GitGrant> {
    const secrets = {
      redirectUri: "https://slipway.example/callback",
      state: "s".repeat(43),
      nonce: "n",
      withGit: true,
    };
    const all = { ...secrets, verifier: "v".repeat(43) };
    const answer = await fetch(await github.authorize(all), { redirect: "manual" });
    const { grant } = await github.identify(new URL(answer.headers.get("location") ?? ""), all);
    return grant!;
  }

  it("[H3] is renewed before its end, once for all who ask, and the refresh token is used once", async () => {
    const { clock, first, token } = await open();
    await clock.advance(7 * 60 * MINUTE);
    expect(await token()).toBe(first.accessToken);
    await clock.advance(50 * MINUTE);
    const asked = await Promise.all([token(), token(), token()]);
    const [, second] = provider.issued;
    expect([asked, provider.issued.length]).toEqual([[second, second, second], 2]);
    await clock.advance(7.9 * 60 * MINUTE);
    expect([await token(), provider.issued.length]).toEqual([provider.issued[2], 3]);
  });

  it("[H3] [H16] a rotation of the keys in the middle loses nothing; a deletion in the middle takes the new one back", async () => {
    const { accounts, keys, clock, vault, token } = await open();
    const rotate = async (): Promise<void> => {
      const { sealed } = (await accounts.credentialFor(USER, host))!;
      const context = credentialContext(USER, host);
      const row = { kind: "credential", userId: USER, host, sealed } as const;
      expect(await keys.reseal([{ row, sealed: vault.seal(vault.open(sealed, context), context) }])).toBe(1);
    };
    await clock.advance(7.9 * 60 * MINUTE);
    provider.lies = { expiring: true, onRefresh: rotate };
    expect(await token()).toBe(provider.issued[1]);
    await clock.advance(7.9 * 60 * MINUTE);
    const drop = async (): Promise<void> => {
      await accounts.deleteCredential(USER, (await accounts.credentialFor(USER, host))!.id);
    };
    provider.lies = { expiring: true, onRefresh: drop };
    await expect(token()).rejects.toMatchObject({ code: "repo_auth" });
    expect(provider.revoked).toEqual([{ what: "token", token: provider.issued[2] }]);
    expect(await accounts.credentialFor(USER, host)).toBe(null);
  });

  it("[H3] one that GitHub renews no more is an error with what to do; while GitHub is down the old one serves to its end", async () => {
    const { clock, first, token } = await open();
    await clock.advance(7.9 * 60 * MINUTE);
    provider.lies = { tokenError: "server_error" };
    expect(await token()).toBe(first.accessToken);
    await clock.advance(10 * MINUTE);
    await expect(token()).rejects.toMatchObject({ code: "repo_unreachable" });
    provider.lies = { tokenError: "bad_refresh_token" };
    await expect(token()).rejects.toMatchObject({
      code: "repo_auth",
      message: expect.stringMatching(/Grant it again/),
    });
  });
});
