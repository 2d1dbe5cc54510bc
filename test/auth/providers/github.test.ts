/** Log-ins with emulate's GitHub: its pages, its codes, its API. */
import { createEmulator, type Emulator } from "emulate";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Browser } from "./browser.ts";
import { allowList, openRig, problemOf, type Rig } from "./rig.ts";

/** Registered at GitHub before the server listens, so that the address is known. */
const PUBLIC = "https://slipway.example";
const CALLBACK = `${PUBLIC}/v1/auth/oauth/github/callback`;
let github: Emulator;
let rig: Rig;

beforeAll(async () => {
  github = await createEmulator({
    service: "github",
    port: 0,
    seed: {
      github: {
        users: [
          { login: "octocat", name: "Octo", email: "octocat@example.org" },
          { login: "stranger", name: "Stranger", email: "stranger@example.com" },
        ],
        oauth_apps: [{ client_id: "client", client_secret: "secret", name: "Slipway", redirect_uris: [CALLBACK] }],
      },
    },
  });
  rig = await openRig(
    [
      {
        kind: "github",
        url: github.url,
        apiUrl: github.url,
        clientId: "client",
        clientSecret: "secret",
        allow: allowList("@example.org"),
      },
    ],
    PUBLIC,
  );
});
afterAll(async () => {
  await rig.close();
  await github.close();
});

/** Chooses a person on GitHub's page. @returns the callback's address. */
async function choose(browser: Browser, login: string): Promise<string> {
  const page = await browser.follow(await browser.open(rig.start("github")), CALLBACK);
  const query = new URL(page.url).searchParams;
  expect(page.text).toContain(login);
  const form = Object.fromEntries(
    ["redirect_uri", "scope", "state", "client_id"].map((name) => [name, query.get(name) ?? ""]),
  );
  const chosen = await browser.open(`${github.url}/login/oauth/callback`, { ...form, login });
  return (chosen.location ?? "").replace(PUBLIC, rig.base);
}

it("[H1] a person comes in with GitHub, and again as the same person", async () => {
  for (let n = 0; n < 2; n++) {
    const browser = new Browser();
    expect((await browser.open(await choose(browser, "octocat"))).location).toBe(`${rig.base}/#session`);
    expect(await rig.whoIs(browser)).toBe("octocat@example.org");
  }
  const [user] = (await rig.api.accounts.users()).filter(({ email }) => email === "octocat@example.org");
  const [identity, ...others] = await rig.api.accounts.identities(user!.id);
  expect([identity?.name, identity?.subject.match(/^\d+$/) !== null, others.length]).toEqual(["octocat", true, 0]);
});

it("[H2] a stranger does not", async () => {
  const browser = new Browser();
  expect(problemOf(await browser.open(await choose(browser, "stranger")))).toBe("not_allowed");
});

it("[H1] a code that was used is refused by GitHub with status 200, and here", async () => {
  const browser = new Browser();
  const callback = await choose(browser, "octocat");
  await browser.open(callback);
  const again = new Browser();
  const own = new URL(await choose(again, "stranger"));
  own.searchParams.set("code", new URL(callback).searchParams.get("code")!);
  expect(problemOf(await again.open(own.href))).toBe("expired");
});
