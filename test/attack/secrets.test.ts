/**
 * Item 91 and rule S1: real secrets are planted, every kind of task runs, then each place that
 * could hold a secret is scanned.
 */
import { execFileSync, spawn } from "node:child_process";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import Database from "../../src/store/sqlite/driver.ts";
import { afterAll, beforeAll, expect } from "vitest";
import { sandboxName } from "../../src/core/task.ts";
import { ADMIN, openAttackTarget, SECRETS, type AttackTarget } from "../support/docker/attacker.ts";
import { describeWithDocker } from "../support/docker/engine.ts";
import { encodedForms, openScanner, type Scanner } from "../support/scanner.ts";
import { inTurn } from "../support/vitest/full-run.ts";

const it = inTurn(4);

/** Everything that an agent can read about its process and container. */
const DIG = `{ env; set; cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'; cat /proc/self/mountinfo ~/.gitconfig ~/.netrc .git/config /etc/hosts;
git config --list --show-origin; cat /home/agent/state/* /run/slipway/*; } 2>/dev/null | tee dug.txt | tail -c 4000; grep -aom 2 'att_[A-Za-z0-9_-]*' dug.txt`;

/** An attempt's token: the one secret that an agent is given. */
const TOKEN = /att_[A-Za-z0-9_-]{43}/;

/**
 * The file system of a workspace is a sparse file: an archive of it is as large as its content.
 */
function readBytes(path: string): Buffer {
  if (statSync(path).size < 2 ** 26) return readFileSync(path);
  return execFileSync("tar", ["--sparse", "-cf", "-", "-C", dirname(path), basename(path)], { maxBuffer: 2 ** 28 });
}

describeWithDocker("[S1] (65, 91) planted secrets", () => {
  let stage: AttackTarget;
  let scanner: Scanner;
  let secrets: Record<string, string>;
  const ended: Record<string, string> = {};
  const whileRunning: Record<string, Buffer> = {};
  let said = "";

  beforeAll(async () => {
    // The guard would ask a person about what the agent commits here.
    stage = await openAttackTarget({ env: { SLIPWAY_LOG_LEVEL: "debug", SLIPWAY_GUARD: "none" } });
    const login = await stage.server.call("POST", "/v1/auth/login", { email: ADMIN, password: SECRETS.adminPassword });
    expect(login.status).toBe(200);
    const { accessToken, refreshToken } = login.body as { accessToken: string; refreshToken: string };
    const operatorToken = readFileSync(join(stage.data, "operator.token"), "utf8").trim();
    secrets = { ...SECRETS, accessToken, refreshToken, operatorToken };
    scanner = openScanner(secrets, join(stage.dir, "patterns"));

    const HOLD = { bash: "echo holding; until [ -e /tmp/go ]; do sleep 0.2; done", timeoutMs: 600_000 };
    const ids = {
      done: await stage.submit([
        { bash: DIG },
        { bash: "echo dug" },
        HOLD,
        { finish: { title: "Dug", summary: "Everything." } },
      ]),
      failed: await stage.submit(
        [{ bash: DIG }, { bash: "echo dug" }, HOLD, { fail: { code: "agent_error", message: "no" } }],
        {
          maxAttempts: 1,
        },
      ),
      cancelled: await stage.submit([{ bash: DIG }, { bash: "echo dug" }, { wait: 600_000 }]),
      unreachable: await stage.submit([], { base: "nowhere" }),
    };
    Object.assign(ended, ids);
    for (const id of [ids.done, ids.failed, ids.cancelled]) {
      await stage.says(id, "dug\n");
      whileRunning[`inspect of ${id}`] = Buffer.from(JSON.stringify(await stage.inspect(id)));
      whileRunning[`log of ${id}`] = Buffer.from(await docker("logs", sandboxName(id, 1)));
      const reachable =
        "tar -cf - /workspace /home/agent /tmp /dev/shm 2>/dev/null; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /run/slipway/*";
      whileRunning[`files of ${id}`] = await docker(
        "exec",
        sandboxName(id, 1),
        "sh",
        "-c",
        `${reachable} 2>/dev/null; true`,
      );
    }
    await stage.server.call("POST", `/v1/tasks/${ids.cancelled}/cancel`);
    for (const id of [ids.done, ids.failed]) await stage.execIn(id, ["touch", "/tmp/go"]);
    for (const id of Object.values(ids)) said += JSON.stringify(await stage.settled(id));
  });
  afterAll(async () => await stage.close());

  function docker(...args: string[]): Promise<Buffer> {
    return output(spawn("docker", args, { stdio: ["ignore", "pipe", "pipe"] }));
  }

  async function output(child: ReturnType<typeof spawn>): Promise<Buffer> {
    const chunks: Buffer[] = [];
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk: Buffer) => chunks.push(chunk));
    await new Promise((resolve) => child.once("close", resolve));
    return Buffer.concat(chunks);
  }

  const git = (repo: string, ...args: string[]): Promise<Buffer> =>
    output(spawn("git", ["-c", "safe.directory=*", ...args], { cwd: repo, stdio: ["ignore", "pipe", "pipe"] }));
  /** Every object of a repository, unpacked. */
  const objects = (repo: string): Promise<Buffer> =>
    git(repo, "cat-file", "--batch-all-objects", "--unordered", "--batch");

  function files(dir: string): string[] {
    return readdirSync(dir, { recursive: true, encoding: "utf8" })
      .map((name) => join(dir, name))
      .filter((path) => statSync(path).isFile());
  }

  it("the scanner finds each secret in each form, at any place, in bytes and in streams", async () => {
    for (const [name, secret] of Object.entries(secrets)) {
      const forms = [
        secret,
        encodeURIComponent(secret),
        Buffer.from(secret).toString("hex"),
        JSON.stringify({ secret }),
      ];
      for (const before of ["", "a", "ab"])
        forms.push(
          Buffer.from(`${before}${secret}tail`).toString("base64"),
          Buffer.from(`${before}${secret}`).toString("base64url"),
        );
      for (const form of forms) {
        expect([name, form, scanner.bytes(`x\0y${form}z`)]).toEqual([name, form, [name]]);
        const { Readable } = await import("node:stream");
        if (form === secret)
          expect(
            await scanner.stream(Readable.from([Buffer.alloc(100_000), Buffer.from(form), Buffer.alloc(10)])),
          ).toEqual([name]);
      }
      expect(encodedForms(secret).every((form) => form.length >= 10)).toBe(true);
    }
    // Positive control: the upstream received the credential, and the data folder stores
    // the operator's token.
    expect(scanner.bytes(stage.upstream.requests.map(({ authorization }) => authorization).join("\n"))).toEqual([
      "gitToken",
    ]);
    expect(scanner.bytes(readFileSync(join(stage.data, "operator.token")))).toEqual(["operatorToken"]);
  });

  it("are not in a container: not in its settings, environments, files or log", () => {
    expect(Object.keys(whileRunning)).toHaveLength(9);
    for (const [where, content] of Object.entries(whileRunning)) {
      expect([where, scanner.bytes(content)]).toEqual([where, []]);
      if (where.startsWith("files")) expect(TOKEN.test(content.toString("latin1"))).toBe(true);
    }
  });

  it("are not in any answer to people; neither is the attempt's token", async () => {
    for (const id of Object.values(ended)) {
      for (const path of [
        "",
        "/events?limit=1000",
        "/messages",
        "/tool-calls",
        "/attempts",
        "/diff",
        "/diff?format=patch",
        "/machine",
      ]) {
        const { body } = await stage.server.call("GET", `/v1/tasks/${id}${path}`);
        expect([path, scanner.bytes(JSON.stringify(body))]).toEqual([path, []]);
      }
    }
    for (const path of [
      "/v1/tasks",
      "/v1/me",
      "/v1/tokens",
      "/v1/credentials",
      "/v1/users",
      "/v1/ops/overview",
      "/metrics",
      "/healthz",
    ]) {
      const { body } = await stage.server.call("GET", path);
      expect([path, scanner.bytes(JSON.stringify(body))]).toEqual([path, []]);
    }
    expect(scanner.bytes(said)).toEqual([]);
    expect(said).toContain("[attempt token]");
    expect(said).not.toMatch(TOKEN);
  });

  it("are not in the server's log at any level", () => {
    const log = stage.server.stderr();
    expect(log.length).toBeLessThan(1_000_000);
    expect(scanner.bytes(log)).toEqual([]);
  });

  it("are in no file of the data folder except the one that holds them, and not in the database", async () => {
    const held = files(stage.data).map(
      (path) => [path.slice(stage.data.length + 1), scanner.bytes(readBytes(path))] as const,
    );
    expect(held.length).toBeGreaterThan(10);
    expect(held.filter(([, found]) => found.length > 0)).toEqual([["operator.token", ["operatorToken"]]]);
    const database = readdirSync(stage.data).find((name) => name.endsWith(".db")) ?? "";
    const db = new Database(join(stage.data, database), { readonly: true });
    const tables = db.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").pluck().all() as string[];
    expect(tables).toContain("task_events");
    for (const table of tables)
      expect([table, scanner.bytes(JSON.stringify(db.prepare(`SELECT * FROM "${table}"`).all()))]).toEqual([table, []]);
    db.close();
    const repos = readdirSync(join(stage.data, "git"), { recursive: true, encoding: "utf8" }).filter((name) =>
      name.endsWith(".git"),
    );
    expect(repos.length).toBeGreaterThan(1);
    for (const repo of repos)
      expect([repo, scanner.bytes(await objects(join(stage.data, "git", repo)))]).toEqual([repo, []]);
  });

  it("are not in the pushed branch, although the agent committed everything that it could read", async () => {
    const path = join(stage.upstream.root, "app.git");
    const all = await objects(path);
    expect(TOKEN.test(all.toString("latin1"))).toBe(true);
    expect(scanner.bytes(all)).toEqual([]);
    expect(scanner.bytes(await git(path, "for-each-ref"))).toEqual([]);
  });

  it("are not in the worker's image", async () => {
    const { Image } = JSON.parse(whileRunning[`inspect of ${ended["done"]}`]?.toString() ?? "{}") as { Image: string };
    const save = spawn("docker", ["save", Image], { stdio: ["ignore", "pipe", "inherit"] });
    expect(await scanner.stream(save.stdout)).toEqual([]);
    writeFileSync(join(stage.dir, "planted"), `x${SECRETS.gitToken}`);
    expect(
      await scanner.stream(
        spawn("tar", ["-cf", "-", "-C", stage.dir, "planted"], { stdio: ["ignore", "pipe", "inherit"] }).stdout,
      ),
    ).toEqual(["gitToken"]);
  });
});
