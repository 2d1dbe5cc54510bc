import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect } from "vitest";
import type { WireTask } from "../../src/core/protocol/rest.ts";
import {
  makeLog,
  openMisbehavingServer,
  sendFrame,
  type Handler,
  type Live,
  type MisbehavingServer,
} from "../client/misbehaving-server.ts";
import { killAll, makeHome, run, start } from "./command.ts";
import { inTurn } from "../support/vitest/full-run.ts";

const it = inTurn(3);

let home = "";
let remove = (): void => undefined;
let stage: MisbehavingServer | undefined;
beforeAll(() => {
  ({ home, remove } = makeHome());
});
afterEach(async () => {
  await stage?.close();
  stage = undefined;
});
afterAll(() => {
  killAll();
  remove();
});

function makeTask(over: Partial<WireTask> = {}): WireTask {
  const usage = { inputTokens: 10, outputTokens: 5, cacheReadTokens: 0, cacheWriteTokens: 0, usd: 0, turns: 1 };
  const at = "2026-01-01T00:00:00.000Z";
  return {
    id: "task_1",
    threadId: "thread_1",
    parentId: null,
    state: "done",
    phase: null,
    attempt: 1,
    maxAttempts: 3,
    repo: "https://git.example.org/x.git",
    base: "main",
    baseSha: "a".repeat(40),
    branch: "slipway/x",
    headSha: "b".repeat(40),
    prompt: "p",
    attachments: [],
    title: "A title\u001b[2J",
    agent: "scripted",
    model: null,
    effort: null,
    image: null,
    wait: null,
    steps: [],
    failure: null,
    question: null,
    budget: null,
    usage,
    threadBudget: null,
    outcome: "pushed",
    summary: "What was done.",
    pullRequest: null,
    dueAt: null,
    owner: { id: "user_1", email: "owner@example.com" },
    submittedBy: { id: "user_1", email: "owner@example.com" },
    repoName: "x",
    todo: null,
    changes: null,
    activity: null,
    submission: {
      base: null,
      budget: {},
      limits: {},
      egress: "none",
      verify: [],
      priority: 0,
      pullRequest: "none",
      maxAttempts: 3,
    },
    createdAt: at,
    updatedAt: at,
    startedAt: at,
    settledAt: at,
    seq: 3,
    notableSeq: 0,
    readSeq: 0,
    ...over,
  };
}

const DIFF = {
  base: "a",
  head: "b",
  truncated: false,
  files: [{ path: "a.txt", oldPath: null, status: "added", additions: 2, deletions: 1, binary: false, patch: "@@" }],
};

function serving(task: WireTask): Handler {
  return ({ path }) => {
    if (path.endsWith("/diff")) return { status: 200, body: DIFF };
    if (path === "/v1/tasks") return { status: 200, body: { items: [task], next: null } };
    return { status: 200, body: task };
  };
}

/** Streams the log; without its end the watch goes on. */
const streaming =
  (states: Parameters<typeof makeLog>[0]): Live =>
  (socket, frame) => {
    if (frame["type"] === "auth") sendFrame(socket, { type: "ready" });
    if (frame["type"] !== "subscribe") return;
    const items = makeLog(states);
    sendFrame(socket, { type: "subscribed", topic: frame["topic"], after: 0 });
    sendFrame(socket, { type: "events", topic: frame["topic"], items, cursor: items.length });
  };

describe("usage", () => {
  it.each([
    [[]],
    [["nonsense"]],
    [["submit"]],
    [["tasks", "--what"]],
    [["tasks", "--state", "asleep"]],
    [["submit", "r", "p", "--turns", "x"]],
    [["submit", "r", "p", "--egress", "all"]],
  ])("%j ends with 2 and says why", async (args) => {
    const { code, out, err } = await run(home, args);
    expect(code).toBe(2);
    expect(out).toBe("");
    expect(err).not.toBe("");
  });

  it("shows help and the version", async () => {
    expect(await run(home, ["--version"])).toEqual({ code: 0, out: "0.1.0\n", err: "" });
    const { code, out } = await run(home, ["serve", "--help"]);
    expect(code).toBe(0);
    expect(out).toContain("SLIPWAY_MAX_CONCURRENT");
  });

  it("serve reports a wrong setting in one sentence", async () => {
    expect(await run(home, ["serve"], { env: { SLIPWAY_SANDBOX: "podman" } })).toEqual({
      code: 2,
      out: "",
      err: 'slipway: SLIPWAY_SANDBOX must be one of docker, process, simulated, not "podman".\n',
    });
  });

  it("ends with 3 when the server cannot be reached", async () => {
    const { code, err } = await run(home, ["tasks", "--url", "http://127.0.0.1:9"]);
    expect(code).toBe(3);
    expect(err).toBe("slipway: The server at http://127.0.0.1:9 cannot be reached. (unreachable)\n");
    expect((await run(home, ["tasks", "--url", "localhost:7080"])).code).toBe(2);
  });
});

describe("which server, as whom", () => {
  it("finds the server of the data folder and needs no login there", async () => {
    stage = await openMisbehavingServer(serving(makeTask()));
    const data = join(home, "data");
    mkdirSync(data, { recursive: true });
    writeFileSync(join(data, "server.json"), JSON.stringify({ url: stage.url }));
    writeFileSync(join(data, "operator.token"), "op-token\n");
    expect((await run(home, ["tasks", "--data-dir", data])).code).toBe(0);
    expect(stage.seen.at(-1)?.token).toBe("op-token");
    // Another server never gets to see the token of this one.
    const other = await openMisbehavingServer(serving(makeTask()));
    await run(home, ["tasks", "--data-dir", data, "--url", other.url]);
    await other.close();
    expect(other.seen.at(-1)?.token).toBeUndefined();
    await run(home, ["tasks"], { env: { SLIPWAY_URL: stage.url, SLIPWAY_TOKEN: "slp_1" } });
    expect(stage.seen.at(-1)?.token).toBe("slp_1");
  });

  it("keeps a login where only its owner can read it, and forgets it", async () => {
    stage = await openMisbehavingServer(({ path, token }) => {
      if (path === "/v1/auth/login")
        return {
          status: 200,
          body: {
            accessToken: "a1",
            refreshToken: "r1",
            expiresIn: 900,
            user: { id: "u", email: "a@b.c", role: "user" },
          },
        };
      if (path === "/v1/auth/logout") return { status: 204 };
      if (token !== "a1")
        return { status: 401, body: { code: "unauthenticated", detail: "Authentication is required." } };
      return { status: 200, body: { items: [], next: null } };
    });
    const login = await run(home, ["login", "--email", "a@b.c", "--url", stage.url], { input: "pass word\n" });
    expect(login.code).toBe(0);
    expect(login.out + login.err).not.toContain("pass word");
    expect(stage.seen[0]?.body).toEqual({ email: "a@b.c", password: "pass word" });
    const file = join(home, "config", "slipway", "sessions.json");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect((await run(home, ["tasks", "--url", stage.url])).code).toBe(0);
    expect((await run(home, ["logout", "--url", stage.url])).code).toBe(0);
    expect(readFileSync(file, "utf8")).not.toContain("a1");
    const after = await run(home, ["tasks", "--url", stage.url]);
    expect(after.code).toBe(2);
    expect(after.err).toContain("slipway login");
  });
});

describe("commands", () => {
  const at = (): string[] => ["--url", stage?.url ?? ""];

  it("lists tasks as a table that commands no terminal, and as JSON", async () => {
    stage = await openMisbehavingServer(serving(makeTask()));
    const { out } = await run(home, ["tasks", ...at()]);
    expect(out).toMatch(/^ID +STATE +AGE +TITLE +REPOSITORY\ntask_1 +done /);
    expect(out).not.toContain("\u001b");
    expect(JSON.parse((await run(home, ["tasks", "--json", ...at()])).out)).toEqual({
      items: [makeTask()],
      next: null,
    });
  });

  it("submits every field, and only what was given", async () => {
    stage = await openMisbehavingServer(() => ({ status: 201, body: makeTask({ state: "queued" }) }));
    const script = join(home, "script.json");
    writeFileSync(script, '[{"say":"hi"}]');
    const flags =
      "--base b --branch c --title t --agent scripted --model m --usd 1.5 --minutes 2 --turns 3 --memory 512 --cpus 0.5 --egress none --pull-request draft --verify v1 --verify v2 --priority -1 --max-attempts 2 --idempotency-key k";
    const { code, out } = await run(
      home,
      ["submit", "https://x/y.git", "-", ...flags.split(" "), "--script", script, ...at()],
      {
        input: "from stdin",
      },
    );
    expect({ code, out }).toEqual({ code: 0, out: "task_1\n" });
    expect(stage.seen[0]?.key).toBe("k");
    expect(stage.seen[0]?.body).toEqual({
      repo: "https://x/y.git",
      prompt: "from stdin",
      base: "b",
      branch: "c",
      title: "t",
      agent: "scripted",
      model: "m",
      script: [{ say: "hi" }],
      budget: { usd: 1.5, minutes: 2, turns: 3 },
      limits: { memoryMb: 512, cpus: 0.5 },
      egress: "none",
      pullRequest: "draft",
      verify: ["v1", "v2"],
      priority: -1,
      maxAttempts: 2,
    });
    await run(home, ["submit", "https://x/y.git", "p", ...at()]);
    expect(stage.seen[1]?.body).toEqual({ repo: "https://x/y.git", prompt: "p" });
  });

  it("retry sends the point, the prompt and the bounds, and only what was given", async () => {
    stage = await openMisbehavingServer(() => ({ status: 201, body: makeTask({ state: "queued" }) }));
    await run(home, ["retry", "task_1", ...at()]);
    await run(home, [
      "retry",
      "task_1",
      ..."--from checkpoint --prompt again --usd 5 --minutes 90 --memory 4096".split(" "),
      ...at(),
    ]);
    expect(stage.seen.filter(({ method }) => method === "POST").map(({ body }) => body)).toEqual([
      {},
      { from: "checkpoint", prompt: "again", budget: { usd: 5, minutes: 90 }, limits: { memoryMb: 4096 } },
    ]);
  });

  it("watch shows the result and ends as the task did", async () => {
    stage = await openMisbehavingServer(serving(makeTask()), streaming(["queued", "running", "done"]));
    const { code, out } = await run(home, ["watch", "task_1", ...at()], { env: { SLIPWAY_TOKEN: "t" } });
    expect(code).toBe(0);
    for (const part of [
      "event 1",
      "event 3",
      "done: pushed slipway/x bbbbbbbbbb",
      "What was done.",
      "1 file changed, +2 -1",
    ])
      expect(out).toContain(part);
  });

  it("watch of a failed task ends with 1 and names the next step", async () => {
    const failure = {
      code: "push_rejected",
      stage: "pushing",
      message: "The repository refused the branch.",
      advice: "Use another branch.",
      evidence: "remote: no\u001b[1m",
      retryable: false,
    } as const;
    stage = await openMisbehavingServer(
      serving(makeTask({ state: "failed", outcome: null, failure })),
      streaming(["queued", "failed"]),
    );
    const { code, out } = await run(home, ["watch", "task_1", ...at()], { env: { SLIPWAY_TOKEN: "t" } });
    expect(code).toBe(1);
    for (const part of ["push_rejected while pushing", "remote: no", "Use another branch."])
      expect(out).toContain(part);
    expect(out).not.toContain("\u001b");
  });

  it("watch --json is one event per line", async () => {
    stage = await openMisbehavingServer(serving(makeTask()), streaming(["queued", "running", "done"]));
    const { code, out } = await run(home, ["watch", "task_1", "--json", ...at()], { env: { SLIPWAY_TOKEN: "t" } });
    expect(code).toBe(0);
    expect(
      out
        .trimEnd()
        .split("\n")
        .map((line) => (JSON.parse(line) as { seq: number }).seq),
    ).toEqual([1, 2, 3]);
  });

  it("Ctrl-C stops watching, not the task", async () => {
    stage = await openMisbehavingServer(serving(makeTask({ state: "running" })), streaming(["queued", "running"]));
    const watching = start(home, ["watch", "task_1", ...at()], { env: { SLIPWAY_TOKEN: "t" } });
    await watching.saw("event 2");
    watching.process.kill("SIGINT");
    const { code, err } = await watching.ended;
    expect(code).toBe(130);
    expect(err).toContain("slipway cancel task_1");
    expect(stage.seen.some(({ method }) => method === "POST")).toBe(false);
  });

  it("answers with the words of an option, or with one's own", async () => {
    const question = { id: "q1", question: "Which?", options: ["left", "right"], askedAt: "2026-01-01T00:00:00.000Z" };
    stage = await openMisbehavingServer(serving(makeTask({ state: "running", question })));
    await run(home, ["answer", "task_1", "2", ...at()]);
    expect(stage.seen.at(-1)?.body).toEqual({ questionId: "q1", text: "right" });
    await run(home, ["answer", "task_1", "neither", ...at()]);
    expect(stage.seen.at(-1)?.body).toEqual({ questionId: "q1", text: "neither" });
  });

  it("takes a git token from standard input or the environment, and never prints it", async () => {
    stage = await openMisbehavingServer(() => ({
      status: 201,
      body: { id: "cred_1", host: "git.example.org", kind: "token", username: null, createdAt: "" },
    }));
    const piped = await run(home, ["credential", "add", "git.example.org", ...at()], { input: "ghp_secret\n" });
    expect({ code: piped.code, printed: (piped.out + piped.err).includes("ghp_secret") }).toEqual({
      code: 0,
      printed: false,
    });
    expect(stage.seen.at(-1)?.body).toEqual({ host: "git.example.org", kind: "token", token: "ghp_secret" });
    await run(home, ["credential", "add", "git.example.org", "--username", "x", ...at()], {
      env: { SLIPWAY_GIT_TOKEN: "ghp_other" },
    });
    expect(stage.seen.at(-1)?.body).toEqual({
      host: "git.example.org",
      kind: "token",
      token: "ghp_other",
      username: "x",
    });
    const repo = "https://git.example.org/team/app";
    await run(home, ["credential", "add", "git.example.org", "--repo", repo, "--no-check", ...at()], {
      env: { SLIPWAY_GIT_TOKEN: "ghp_other" },
    });
    expect(stage.seen.at(-1)?.body).toMatchObject({ repo, check: false });
    expect((await run(home, ["credential", "add", "git.example.org", ...at()])).code).toBe(2);
  });

  it("prints the server's validation errors by field", async () => {
    stage = await openMisbehavingServer(() => ({
      status: 400,
      body: {
        code: "invalid_request",
        detail: "The request is not valid.",
        errors: [{ path: "prompt", message: "must not be empty" }],
      },
    }));
    const { code, err } = await run(home, ["submit", "https://x/y.git", " ", ...at()]);
    expect(code).toBe(2);
    expect(err).toBe("slipway: the prompt must not be empty. (invalid_request)\n");
  });
});
