/** What a person learns about a repository before a task: the service on real git. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { CredentialChecker } from "../../src/coordinator/services/tasks/pre-flight/credential-checker.ts";
import { RepositoryChecker } from "../../src/coordinator/services/tasks/pre-flight/repository-checker.ts";
import type { SlipwayError } from "../../src/core/error.ts";
import type { GitAuth } from "../../src/core/ports/repositories.ts";
import type { CheckRequest, CredentialCheck, RepositoryCheck } from "../../src/core/protocol/repositories.ts";
import { openRepositories } from "../../src/git/repositories.ts";
import { startGitServer, type GitServer, type GitServerOptions } from "../support/git-server.ts";
import { startHostileHost, type HostileHost } from "../support/hostile/git-host.ts";
import { startGitHubDouble } from "./forges/github-double.ts";
import { createManualClock } from "../support/manual-clock.ts";

const PERSON = { userId: "user_a", role: "user" } as const;
const TOKEN = "s3cr3t-T0ken/with+odd=chars";
const ROBOT: GitAuth = { username: "robot", token: TOKEN };

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

interface Rig {
  readonly checker: RepositoryChecker;
  readonly dir: string;
}

function openChecker(trustedHosts: readonly string[], auth: GitAuth | null): Rig {
  const dir = mkdtempSync(join(tmpdir(), "slipway-probe-"));
  const repos = openRepositories({ dir, trustedHosts });
  closers.push(
    () => rmSync(dir, { recursive: true, force: true }),
    () => repos.close(),
  );
  const clock = createManualClock();
  const checker = new RepositoryChecker({
    repos,
    forges: [],
    authFor: () => Promise.resolve(auth),
    trustedHosts,
    clock,
  });
  return { checker, dir };
}

async function openUpstream(options: GitServerOptions = {}): Promise<{ server: GitServer; url: string }> {
  const server = await startGitServer(options);
  closers.push(() => server.close());
  const { url } = server.createRepo("app", { "README.md": "# App\n" });
  return { server, url };
}

const codes = ({ problems }: RepositoryCheck): string[] => problems.map(({ about, code }) => `${about}: ${code}`);

describe("[V7] a check before a task", () => {
  const login = { auth: { username: "robot", password: TOKEN } };

  it("says yes where the work can be pushed, and lists the branches", async () => {
    const { server, url } = await openUpstream(login);
    for (const branch of ["slipway/old", "feature/login", "develop"]) server.commit("app", branch, { "x.txt": branch });
    const { checker, dir } = openChecker([server.host], ROBOT);
    const found = await checker.check(PERSON, { repo: `${url}/`, base: "develop" });
    expect(found).toEqual({
      repo: url,
      name: "app",
      host: server.host,
      forge: null,
      hasCredential: true,
      canRead: true,
      canPush: true,
      defaultBranch: "main",
      branches: ["main", "develop", "feature/login", "slipway/old"],
      branchesTruncated: false,
      problems: [],
    });
    expect(server.git("app", "for-each-ref", "refs/heads/slipway/check")).toBe("");
    expect(readdirSync(join(dir, "mirrors"))).toEqual([]);
    expect(JSON.stringify(found)).not.toContain(TOKEN);
  });

  it("says what to do about each refusal, with and without a credential", async () => {
    const { server, url } = await openUpstream(login);
    const check = async (auth: GitAuth | null, over: Partial<CheckRequest> = {}) =>
      await openChecker([server.host], auth).checker.check(PERSON, { repo: url, ...over });
    const anonymous = await check(null);
    expect([codes(anonymous), anonymous.canRead, anonymous.canPush]).toEqual([["read: repo_auth"], false, null]);
    expect(anonymous.problems[0]?.message).toMatch(/Save a git credential for 127\.0\.0\.1/);
    const wrong = await check({ username: "robot", token: "wrong" });
    expect([codes(wrong), wrong.hasCredential]).toEqual([["read: repo_auth"], true]);
    expect(wrong.problems[0]?.message).toMatch(/refused your credential/);
    expect(codes(await check(ROBOT, { repo: url.replace("app", "nothing") }))).toEqual(["read: repo_not_found"]);
    const lost = await check(ROBOT, { base: "nowhere" });
    expect([codes(lost), lost.canPush]).toEqual([["base: branch_not_found"], true]);
    expect(lost.problems[0]?.message).toContain("leave it out for main");
    server.refuse("app", { status: 503 });
    expect(codes(await check(ROBOT))).toEqual(["read: repo_unreachable"]);
  });

  it("tells that reading is allowed and pushing is not", async () => {
    const { server, url } = await openUpstream({ auth: { ...login.auth, readOnly: true } });
    const reader = await openChecker([server.host], ROBOT).checker.check(PERSON, { repo: url });
    expect([codes(reader), reader.canRead, reader.canPush]).toEqual([["push: push_auth"], true, false]);
    expect(reader.problems[0]?.message).toMatch(/may not push.*write access/);
    expect(reader.branches).toEqual(["main"]);
    const open = await openUpstream();
    open.server.refuse("app", { status: 500, on: "push" });
    const unsure = await openChecker([open.server.host], ROBOT).checker.check(PERSON, { repo: open.url });
    expect([codes(unsure), unsure.canPush]).toEqual([["push: push_unknown"], null]);
  });

  it("finds an empty repository, and a host whose name does not resolve", async () => {
    const { server, url } = await openUpstream();
    server.git("app", "update-ref", "-d", "refs/heads/main");
    expect(codes(await openChecker([server.host], null).checker.check(PERSON, { repo: url }))).toEqual([
      "base: repo_empty",
    ]);
    const closed = openChecker([], null).checker;
    await expect(closed.check(PERSON, { repo: url })).rejects.toMatchObject({ code: "invalid_repository" });
    const rebound = await closed.check(PERSON, { repo: "https://no-such-host.example/team/app" });
    expect(codes(rebound)).toEqual(["read: repo_unreachable"]);
  });

  it("[S6] a host that announces many branches, or none that can be one, gets a bounded answer", async () => {
    const sha = "1".repeat(40);
    const many = Array.from({ length: 4_000 }, (_, i) => `${sha} refs/heads/b${String(i).padStart(5, "0")}`);
    const open = async (refs: readonly string[]): Promise<HostileHost> => {
      const host = await startHostileHost({ refs });
      closers.push(() => host.close());
      return host;
    };
    const crowded = await open([`${sha} HEAD symref-target:refs/heads/b00007`, ...many]);
    const check = await openChecker([crowded.host], null).checker.check(PERSON, { repo: crowded.url });
    expect([check.branches.length, check.branches[0], check.branchesTruncated]).toEqual([500, "b00007", true]);
    const strange = await open([`${sha} HEAD symref-target:refs/heads/-x`, `${sha} refs/heads/a..b`]);
    const odd = await openChecker([strange.host], null).checker.check(PERSON, { repo: strange.url });
    expect([odd.defaultBranch, odd.branches, codes(odd)[0]]).toEqual([null, [], "base: repo_empty"]);
  });
});

describe("[V10] a credential is checked before it is saved", () => {
  const refusal = (check: Promise<CredentialCheck>): Promise<SlipwayError> =>
    check.then(
      ({ message }) => Promise.reject(new Error(`it was taken: ${message}`)),
      (error: unknown) => error as SlipwayError,
    );

  it("with a repository of the host: what it may do there, a clear no, or no answer", async () => {
    const { server, url } = await openUpstream({ auth: { username: "robot", password: TOKEN } });
    const { checker } = openChecker([server.host], null);
    const credentials = new CredentialChecker({ repositories: checker, forges: [], trustedHosts: [server.host] });
    const check = (auth: GitAuth, repo: string | null = url, host = server.host) =>
      credentials.check(PERSON, { host, auth, repo });
    expect(await check(ROBOT)).toEqual({
      result: "passed",
      repo: url,
      canRead: true,
      canPush: true,
      account: null,
      scopes: null,
      message: "It can read app and push to it.",
    });
    expect(server.git("app", "for-each-ref", "refs/heads/slipway")).toBe("");
    const wrong = await refusal(check({ username: "robot", token: "wrong-T0ken" }));
    expect(wrong).toMatchObject({ code: "credential_refused", message: expect.stringMatching(/does not accept/) });
    expect(wrong.message).toContain("save it without the check");
    expect(wrong.message).not.toContain("wrong-T0ken");
    const lost = await refusal(check(ROBOT, url.replace("app", "nothing")));
    expect(lost).toMatchObject({ code: "credential_refused", message: expect.stringMatching(/may not see it/) });
    expect(await refusal(check(ROBOT, url, "git.example.org"))).toMatchObject({ code: "invalid_repository" });
    server.refuse("app", { status: 503 });
    expect(await check(ROBOT)).toMatchObject({
      result: "unknown",
      canRead: null,
      message: expect.stringMatching(/^Not checked: /),
    });
    expect(await check(ROBOT, null)).toMatchObject({
      result: "unknown",
      message: expect.stringMatching(/cannot ask .* a token alone/),
    });
  });

  it("one that reads and may not push is refused", async () => {
    const { server, url } = await openUpstream({ auth: { username: "robot", password: TOKEN, readOnly: true } });
    const { checker } = openChecker([server.host], null);
    const credentials = new CredentialChecker({ repositories: checker, forges: [], trustedHosts: [server.host] });
    const refused = await refusal(credentials.check(PERSON, { host: server.host, auth: ROBOT, repo: url }));
    expect(refused).toMatchObject({
      code: "credential_refused",
      message: expect.stringMatching(/may not push.*write access/),
    });
  });

  it("without a repository: by the forge of the host, with the scopes that it tells", async () => {
    const double = await startGitHubDouble();
    const { forge, close } = double.open();
    closers.push(
      () => double.close(),
      () => close(),
    );
    const credentials = new CredentialChecker({
      repositories: openChecker([], null).checker,
      forges: [forge],
      trustedHosts: [],
    });
    const check = (token: string) =>
      credentials.check(PERSON, { host: forge.host, auth: { username: "x-access-token", token }, repo: null });
    expect(await check(double.token)).toMatchObject({
      result: "passed",
      account: "octocat",
      canPush: null,
      message: expect.stringMatching(/^GitHub knows it as octocat/),
    });
    const answer = (scopes: string): void =>
      double.fail({
        method: "GET",
        status: 200,
        headers: { "x-oauth-scopes": scopes },
        body: { login: "octocat" },
      });
    answer("gist, repo");
    expect(await check(double.token)).toMatchObject({
      scopes: ["gist", "repo"],
      message: expect.stringMatching(/octocat \(gist, repo\)/),
    });
    answer("gist");
    expect(await refusal(check(double.token))).toMatchObject({
      code: "credential_refused",
      message: expect.stringMatching(/may not push anywhere. The token needs/),
    });
    expect(await refusal(check("another"))).toMatchObject({
      code: "credential_refused",
      message: expect.stringMatching(/Bad credentials/),
    });
    double.fail({ method: "GET", status: 502 });
    expect(await check(double.token)).toMatchObject({
      result: "unknown",
      message: expect.stringMatching(/^Not checked: GitHub/),
    });
  });
});
