/** What a hostile host, and the content of a repository, can make git use. */
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { GIT_LIMITS, openGit, type GitCall } from "../../src/git/git-process.ts";
import { openMirrors } from "../../src/git/mirrors.ts";
import { readDiff } from "../../src/git/diff.ts";
import { openRepositories } from "../../src/git/repositories.ts";
import { BoundedCache } from "../../src/core/lib/concurrency/bounded-cache.ts";
import { errorCode } from "../contract/repositories.ts";
import { startGitServer, type GitServer } from "../support/git-server.ts";
import { packet, startHostileHost, type HostileHost } from "../support/hostile/git-host.ts";
import { commitFiles, createRepository } from "../support/repository.ts";
import { PATIENCE_MS } from "../support/vitest/patience.ts";

const never = new AbortController().signal;
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});
function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), "slipway-limits-"));
  closers.push(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** MiB in memory of the processes whose working folder or command line names that folder. */
function residentMb(dir: string): number {
  const pages = readdirSync("/proc").flatMap((pid) => {
    try {
      if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return [];
      const environment = readFileSync(`/proc/${pid}/environ`, "utf8");
      if (!environment.includes(dir)) return [];
      return [Number(readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1])];
    } catch {
      return [];
    }
  });
  return (pages.reduce((sum, count) => sum + count, 0) * 4_096) / 2 ** 20;
}

describe("a host that announces refs without end", () => {
  let sentMb = 0;
  async function endless(): Promise<HostileHost> {
    const line = packet(`${"1".repeat(40)} refs/heads/${"x".repeat(200)}\n`);
    const block = Buffer.from(line.repeat(4_000));
    sentMb = 0;
    const host = await startHostileHost({
      advertise(response) {
        response.write(`${packet("# service=git-upload-pack\n")}0000`);
        const more = (): void => {
          while (!response.destroyed && response.write(block)) sentMb += block.length / 2 ** 20;
          if (!response.destroyed) response.once("drain", more);
        };
        more();
      },
    });
    closers.push(() => host.close());
    return host;
  }

  it("[S6] ends its task in bounded memory, with a code of its own", async () => {
    const { url, host } = await endless();
    const dir = folder();
    const repos = openRepositories({ dir, trustedHosts: [host] });
    let peak = 0;
    const watch = setInterval(() => (peak = Math.max(peak, residentMb(dir))), 50);
    closers.push(() => clearInterval(watch));
    const asked = { taskId: "task_a", userId: "user_a", repo: url, auth: null, base: null, parentTaskId: null };
    expect(await errorCode(repos.prepare(asked, AbortSignal.timeout(PATIENCE_MS)))).toBe("repo_too_large");
    expect(peak).toBeLessThan(2 * GIT_LIMITS.remote.memoryMb);
    expect(sentMb).toBeLessThan(2 * GIT_LIMITS.remote.memoryMb);
  });
});

describe("a repository with 20,000 branches", () => {
  let server: GitServer;
  async function open() {
    server = await startGitServer();
    closers.push(() => server.close());
    const { url, path, sha } = server.createRepo("app", { "a.txt": "a" });
    const names = Array.from({ length: 20_000 }, (_, i) => `${sha} refs/heads/branch-${String(i).padStart(5, "0")}`);
    names.push(`${sha} refs/heads/main`);
    writeFileSync(join(path, "packed-refs"), `# pack-refs with: peeled fully-peeled sorted\n${names.join("\n")}\n`);
    const dir = folder();
    return { url, sha, dir, git: openGit(dir) };
  }
  const countFiles = (dir: string): number => readdirSync(dir, { recursive: true }).length;

  it("[S6] takes a few files here, and each branch that is asked for can be had", async () => {
    const { url, sha, dir, git } = await open();
    const mirrors = openMirrors(git, join(dir, "mirrors"), [server.host]);
    for (const base of [null, "branch-00007", "branch-19999"])
      expect(await mirrors.fetch({ userId: "user_a", repo: url, auth: null, base }, never)).toMatchObject({
        baseSha: sha,
      });
    expect(countFiles(join(dir, "mirrors"))).toBeLessThan(60);
    await mirrors.close();
  });

  it("[S6] of an earlier version, which made a file of each, is packed at its next fetch", async () => {
    const { url, sha, dir, git } = await open();
    const mirrors = openMirrors(git, join(dir, "mirrors"), [server.host]);
    const { path } = await mirrors.fetch({ userId: "user_a", repo: url, auth: null, base: null }, never);
    for (let i = 0; i < 500; i += 1) writeFileSync(join(path, "refs", "heads", `old-${i}`), `${sha}\n`);
    server.commit("app", "main", { "b.txt": "b" });
    await mirrors.fetch({ userId: "user_a", repo: url, auth: null, base: "main" }, never);
    expect(countFiles(join(path, "refs"))).toBeLessThan(10);
    await mirrors.close();
  });

  it("branches that cannot exist beside each other as files can both be bases", async () => {
    const { url, dir, git } = await open();
    const mirrors = openMirrors(git, join(dir, "mirrors"), [server.host]);
    const first = server.commit("app", "topic", { "b.txt": "b" });
    expect(await mirrors.fetch({ userId: "u", repo: url, auth: null, base: "topic" }, never)).toMatchObject({
      baseSha: first,
    });
    server.git("app", "update-ref", "-d", "refs/heads/topic");
    const second = server.commit("app", "topic/one", { "c.txt": "c" });
    expect(await mirrors.fetch({ userId: "u", repo: url, auth: null, base: "topic/one" }, never)).toMatchObject({
      baseSha: second,
    });
    await mirrors.close();
  });
});

describe("comparisons", () => {
  const LINES = "\n".repeat(1_500_000);

  async function open() {
    const dir = folder();
    const work = join(dir, "work");
    const base = await createRepository(work, { "a.txt": "a\n" });
    const head = await commitFiles(work, { "b.txt": LINES, "c.txt": LINES.slice(1), "a.txt": "b\n" });
    return { dir, work, base, head };
  }

  it("[S6] one that takes too much memory or time is refused with a reason, and others go on", async () => {
    const { dir, work, base, head } = await open();
    for (const limits of [
      { memoryMb: 30, cpuS: 20, fileMb: 1 },
      { memoryMb: 768, cpuS: 0, fileMb: 1 },
    ]) {
      const git = openGit(join(dir, "git"), { ...GIT_LIMITS, diff: limits });
      await expect(readDiff(git, work, base, head)).rejects.toMatchObject({ code: "payload_too_large" });
    }
    expect((await readDiff(openGit(join(dir, "git")), work, base, head)).files).toHaveLength(3);
  });

  it("[S6] run two at a time; each is made once, however many ask, and kept", async () => {
    const cache = new BoundedCache({ concurrency: 2, maxWaiting: 5, maxSize: 30 });
    let [running, most, made] = [0, 0, 0];
    const make = async (): Promise<string> => {
      most = Math.max(most, (running += 1));
      made += 1;
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
      return "x".repeat(10);
    };
    const get = (key: string) => cache.get(key, make, (text) => text.length);
    await Promise.all(["a", "b", "c", "a", "b", "c", "a"].map(get));
    expect([most, made]).toEqual([2, 3]);
    await Promise.all(["a", "b", "c"].map(get));
    expect(made).toBe(3);
    await get("d");
    await get("b");
    expect(made).toBe(4);
    await get("a");
    expect(made).toBe(5);
    const many = await Promise.allSettled(Array.from({ length: 10 }, (_, i) => get(`many ${i}`)));
    expect(many.filter(({ status }) => status === "rejected").length).toBe(3);
    await expect(
      cache.get(
        "bad",
        () => Promise.reject(new Error("no")),
        () => 1,
      ),
    ).rejects.toThrow("no");
    expect(
      await cache.get(
        "bad",
        () => Promise.resolve("good"),
        () => 1,
      ),
    ).toBe("good");
  });
});

it("[S6] every kind of call has limits, and git's helpers inherit them", async () => {
  const dir = folder();
  mkdirSync(join(dir, "x"));
  const git = openGit(dir);
  const show = (kind: NonNullable<GitCall["kind"]>) =>
    git({ cwd: dir, kind, args: ["-c", "alias.limits=!ulimit -v; ulimit -St; ulimit -Ht; ulimit -f", "limits"] });
  for (const kind of ["local", "remote", "transfer", "diff"] as const) {
    const { memoryMb, cpuS, fileMb } = GIT_LIMITS[kind];
    const limits = [memoryMb * 1_024, cpuS, cpuS + 5, fileMb * 2_048];
    expect((await show(kind)).text.trim().split("\n")).toEqual(limits.map(String));
  }
});

describe("the room of a person", () => {
  it("[S14] a fetch beyond it ends, what arrives at once counts together, and nothing of it stays", async () => {
    const server = await startGitServer();
    closers.push(() => server.close());
    const make = (name: string): string => {
      const { url } = server.createRepo(name, { "a.txt": randomBytes(2 ** 20).toString("hex") });
      // Above the room together for more than a second, however late a busy machine looks.
      server.shape(name, { bytesPerSecond: 2 ** 18 });
      return url;
    };
    const [first, second] = [make("first"), make("second")];
    const dir = folder();
    const repos = openRepositories({ dir, trustedHosts: [server.host] });
    closers.push(() => repos.close());
    const room = 1.5 * 2 ** 20;
    const stored = async (): Promise<number> => (await repos.usage()).reduce((sum, { bytes }) => sum + bytes, 0);
    // The first two begin to receive at one moment.
    let waiting = 0;
    const together = async (): Promise<void> => {
      waiting += 1;
      await expect.poll(() => waiting).toBeGreaterThan(1);
    };
    const prepare = (taskId: string, repo: string, userId = "user_a") =>
      repos.prepare(
        {
          taskId,
          userId,
          repo,
          auth: null,
          base: null,
          parentTaskId: null,
          async getAllowance() {
            await together();
            return room - (userId === "user_a" ? await stored() : 0);
          },
        },
        AbortSignal.timeout(PATIENCE_MS),
      );
    const codes = await Promise.all([errorCode(prepare("task_a", first)), errorCode(prepare("task_b", second))]);
    expect(codes.toSorted()).toEqual(["no failure", "repo_too_large"]);
    const [kept, ended] = codes[0] === "no failure" ? [first, second] : [second, first];
    expect(await stored()).toBeLessThan(room);
    expect(readdirSync(dir, { recursive: true, encoding: "utf8" }).filter((name) => name.includes("tmp_"))).toEqual([]);
    // What is there needs no room, and the room of others is theirs.
    expect(await errorCode(prepare("task_c", kept))).toBe("no failure");
    expect(await errorCode(prepare("task_d", ended))).toBe("repo_too_large");
    expect(await errorCode(prepare("task_e", ended, "user_b"))).toBe("no failure");
  });
});
