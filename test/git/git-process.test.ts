/** The coordinator's git runner: environment, credentials, output limits and stale files. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openMirrors } from "../../src/git/mirrors.ts";
import { GitError } from "../../src/core/lib/git/git-error.ts";
import { openGit, removeStaleLocks, type Git } from "../../src/git/git-process.ts";
import { secretForms } from "../../src/core/lib/json/redaction.ts";
import { startGitServer, type GitServer } from "../support/git-server.ts";
import type { GitAuth } from "../../src/core/ports/repositories.ts";

const TOKEN = "s3cr3t-T0ken/with+odd=chars";
const AUTH: GitAuth = { username: "robot", token: TOKEN };

let dir: string;
let git: Git;
let server: GitServer;
let url: string;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-run-"));
  git = openGit(dir);
  server = await startGitServer();
  url = server.createRepo("app").url;
});
afterEach(async () => {
  await server.close();
  rmSync(dir, { recursive: true, force: true });
});

const getOutput = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "no error",
    (error: unknown) => (error instanceof GitError ? error.output : String(error)),
  );

/** Ids and names of the processes that hold the token in their environment or arguments. */
function holders(): { pid: number; name: string; args: string }[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const [environ, args] = ["environ", "cmdline"].map((file) => readFileSync(`/proc/${pid}/${file}`, "utf8"));
        if (!`${environ}${args}`.includes(TOKEN)) return [];
        return [{ pid: Number(pid), name: readFileSync(`/proc/${pid}/comm`, "utf8").trim(), args: args ?? "" }];
      } catch {
        return [];
      }
    });
}

describe.runIf(process.platform === "linux")("[S1] the credential", () => {
  it("exists only in git processes while they run, and in no process afterwards", async () => {
    server.refuse("app", { hang: true });
    const cancel = new AbortController();
    const slow = getOutput(git({ cwd: dir, auth: AUTH, signal: cancel.signal, args: ["ls-remote", "--", url] }));
    await expect.poll(() => holders().some(({ name }) => name.startsWith("git-remote"))).toBe(true);
    const during = holders();
    expect(during.map(({ name }) => name)).toContain("git-remote-http");
    for (const { name, args } of during) {
      expect(name).toMatch(/^git/);
      expect(args).not.toContain(TOKEN);
    }
    cancel.abort();
    expect(await slow).toContain("AbortError");
    expect(holders()).toEqual([]);
  });

  it("is redacted from the output of the upstream", async () => {
    const echo = [TOKEN, encodeURIComponent(TOKEN), Buffer.from(`robot:${TOKEN}`).toString("base64")];
    server.refuse("app", { status: 403, text: echo.join(" ") });
    const output = await getOutput(git({ cwd: dir, auth: AUTH, args: ["ls-remote", "--", url] }));
    expect(output).toContain("*** *** ***");
    expect(output).toContain("error: 403");
    for (const form of echo) expect(output).not.toContain(form);
  });

  it("[S1] is redacted in other encodings, and before the output is cut", async () => {
    const call = (text: string): Promise<string> => {
      server.refuse("app", { status: 403, text });
      return getOutput(git({ cwd: dir, auth: AUTH, args: ["ls-remote", "--", url] }));
    };
    const encoded = [Buffer.from(`proxy: ${TOKEN}`).toString("base64"), Buffer.from(TOKEN).toString("hex")];
    const output = await call(`${encoded.join(" ")} |end`);
    for (const form of secretForms(TOKEN)) expect(output).not.toContain(form);
    const rest = output.split("|end")[1]?.length ?? 0;
    // The kept end of the output begins in the middle of the token.
    expect(await call(TOKEN + "y".repeat(16_384 - rest - 10))).not.toContain(TOKEN.slice(-9));
  });

  it("is not in the askpass helper, which only its owner can read", () => {
    expect(statSync(join(dir, "askpass.sh")).mode & 0o077).toBe(0);
    expect(readFileSync(join(dir, "askpass.sh"), "utf8")).not.toContain(TOKEN);
  });
});

describe("the environment", () => {
  it("[S6] does not contain the server's environment variables or home folder", async () => {
    const home = join(dir, "home");
    mkdirSync(home);
    writeFileSync(join(home, ".gitconfig"), '[url "http://127.0.0.1:1/"]\n\tinsteadOf = http\n');
    const hostile = {
      HOME: home,
      XDG_CONFIG_HOME: home,
      http_proxy: "http://127.0.0.1:1",
      ALL_PROXY: "http://127.0.0.1:1",
      GIT_CONFIG_COUNT: "1",
      GIT_CONFIG_KEY_0: "http.proxy",
      GIT_CONFIG_VALUE_0: "http://127.0.0.1:1",
      GIT_DIR: "/nonexistent",
      GIT_TRACE: "1",
    };
    const before = { ...process.env };
    Object.assign(process.env, hostile);
    try {
      expect((await git({ cwd: dir, args: ["ls-remote", "--", url, "HEAD"] })).text).toMatch(/^[0-9a-f]{40}\tHEAD\n$/);
    } finally {
      for (const name of Object.keys(hostile)) {
        if (before[name] === undefined) delete process.env[name];
        else process.env[name] = before[name];
      }
    }
  });

  it("[S6] allows http and https only, and local repositories only with the `local` option", async () => {
    const path = join(server.root, "app.git");
    for (const source of [
      `file://${path}`,
      path,
      `ext::touch ${join(dir, "ran")}`,
      "ssh://127.0.0.1/x",
      "git://127.0.0.1/x",
    ]) {
      expect(await getOutput(git({ cwd: dir, args: ["ls-remote", "--", source] })), source).toMatch(/not allowed/);
    }
    expect(readdirSync(dir)).not.toContain("ran");
    expect((await git({ cwd: dir, local: true, args: ["ls-remote", "--", path, "HEAD"] })).text).toContain("HEAD");
    expect(await getOutput(git({ cwd: dir, local: true, args: ["ls-remote", "--", url] }))).toMatch(/not allowed/);
  });

  it("[S6] connects to the pinned address, not to the address in DNS", async () => {
    const { port } = new URL(url);
    const named = url.replace("127.0.0.1", "upstream.example.com");
    expect(await getOutput(git({ cwd: dir, args: ["ls-remote", "--", named] }))).toMatch(/could not resolve/i);
    const pin = `upstream.example.com:${port}:127.0.0.1`;
    expect((await git({ cwd: dir, pin, args: ["ls-remote", "--", named, "HEAD"] })).text).toContain("HEAD");
    // The other way round: a name that resolves to the server is not connected to when the pin says
    // otherwise.
    const away = url.replace("127.0.0.1", "localhost");
    expect(
      await getOutput(git({ cwd: dir, pin: `localhost:${port}:127.0.0.2`, args: ["ls-remote", "--", away] })),
    ).not.toBe("no error");
  });

  it("[S6] a redirect is not followed", async () => {
    server.refuse("app", {
      status: 302,
      text: "moved",
      headers: { location: `${server.url}/other.git/info/refs?service=git-upload-pack` },
    });
    server.createRepo("other");
    expect(await getOutput(git({ cwd: dir, args: ["ls-remote", "--", url] }))).toMatch(/error: 302/);
    expect(server.requests.filter(({ path }) => path.startsWith("/other"))).toEqual([]);
  });
});

describe("the output", () => {
  it("is truncated at the limit of the caller, and git stops", async () => {
    const bare = join(server.root, "app.git");
    server.commit("app", "main", { "big.txt": "0123456789\n".repeat(300_000) });
    const cut = await git({ cwd: bare, args: ["show", "HEAD:big.txt"], maxBytes: 1_000 });
    expect([cut.bytes.length, cut.truncated]).toEqual([1_000, true]);
    const whole = await git({ cwd: bare, args: ["show", "HEAD:big.txt"], maxBytes: 3_300_000 });
    expect([whole.bytes.length, whole.truncated]).toEqual([3_300_000, false]);
    for (let i = 0; i < 6; i += 1)
      server.commit("app", "main", { "big.txt": "0123456789\n".repeat(300_000 * (i + 1)) });
    expect(await getOutput(git({ cwd: bare, args: ["show", "HEAD:big.txt"] }))).toContain(
      "git exceeded the output limit",
    );
  });

  it("an aborted call does not start git", async () => {
    await expect(git({ cwd: dir, signal: AbortSignal.abort(), args: ["ls-remote", "--", url] })).rejects.toThrow(
      "aborted",
    );
    expect(server.requests).toEqual([]);
  });
});

describe("[D2] stale locks of a killed git", () => {
  it("do not block the next call after their removal", async () => {
    const bare = join(server.root, "app.git");
    const update = (): Promise<string> => getOutput(git({ cwd: bare, args: ["update-ref", "refs/heads/x", "HEAD"] }));
    for (const path of ["refs/heads/x.lock", "packed-refs.lock", "HEAD.lock", "objects/pack/tmp_pack_abc"])
      writeFileSync(join(bare, path), "");
    mkdirSync(join(bare, "objects/tmp_objdir-incoming-abc/pack"), { recursive: true });
    expect(await update()).toContain("lock");
    removeStaleLocks(bare);
    expect(await update()).toBe("no error");
    const names = readdirSync(bare, { recursive: true, encoding: "utf8" });
    expect(names.filter((name) => /\.lock$|tmp_/.test(name))).toEqual([]);
    execFileSync("git", ["fsck", "--full"], { cwd: bare, stdio: "ignore" });
  });
});

describe("mirrors", () => {
  const signal = new AbortController().signal;
  const source = (base: string | null) => ({ userId: "user_a", repo: url, auth: null, base });

  it("retry when a branch moves between ls-remote and the fetch", async () => {
    let moves = 1;
    const move = (): void => {
      if (moves > 0)
        server.git(
          "app",
          "update-ref",
          "refs/heads/main",
          server.git("app", "commit-tree", "HEAD^{tree}", "-m", `other ${moves}`),
        );
      moves -= 1;
    };
    const shaky: Git = async (call) => {
      if (call.args[0] !== "fetch") return await git(call);
      move();
      return await git(call).finally(move);
    };
    const mirrors = openMirrors(shaky, join(dir, "mirrors"), [server.host]);
    const { baseSha } = await mirrors.fetch(source(null), signal);
    expect(baseSha).toBe(server.git("app", "rev-parse", "refs/heads/main"));
    moves = 99;
    server.commit("app", "main", { "x.txt": "x" });
    await expect(mirrors.fetch(source(null), signal)).rejects.toMatchObject({ code: "repo_unreachable" });
  });

  it("select the exact branch among refs with the same suffix", async () => {
    const wanted = server.git("app", "rev-parse", "refs/heads/main");
    server.git(
      "app",
      "update-ref",
      "refs/heads/refs/heads/main",
      server.git("app", "commit-tree", "HEAD^{tree}", "-m", "decoy"),
    );
    const mirrors = openMirrors(git, join(dir, "mirrors"), [server.host]);
    expect(await mirrors.fetch(source("main"), signal)).toMatchObject({ base: "main", baseSha: wanted });
  });

  it("reject a cancelled waiting fetch at once and run the others one at a time", async () => {
    let release: () => void = () => undefined;
    const released = new Promise<void>((resolve) => (release = resolve));
    let running = 0;
    let most = 0;
    const slow: Git = async (call) => {
      if (call.args[0] !== "fetch") return await git(call);
      running += 1;
      most = Math.max(most, running);
      await released;
      return await git(call).finally(() => (running -= 1));
    };
    const mirrors = openMirrors(slow, join(dir, "mirrors"), [server.host]);
    const cancel = new AbortController();
    const first = mirrors.fetch(source(null), signal);
    await expect.poll(() => running).toBeGreaterThan(0);
    const second = mirrors.fetch(source(null), cancel.signal);
    const third = mirrors.fetch(source(null), signal);
    setTimeout(() => cancel.abort(), 300);
    await expect(second).rejects.toThrow("aborted");
    release();
    expect((await first).baseSha).toBe((await third).baseSha);
    expect(most).toBe(1);
  });
});
