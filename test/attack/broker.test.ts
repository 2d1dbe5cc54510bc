/**
 * Items 67, 79, 81, 84-87: an agent that has read the attempt's token and speaks to the broker
 * itself, from inside its container.
 */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { WebSocket } from "ws";
import { checkInvariants } from "../../src/coordinator/invariants.ts";
import { SlipwayClient } from "../../src/client/index.ts";
import { openDockerSandbox } from "../../src/sandbox/docker/sandbox.ts";
import { openSqliteReader } from "../../src/store/sqlite/store.ts";
import type { ScriptStep } from "../../src/core/task.ts";
import { watchPulse, openAttackTarget, residentMb, type AttackTarget } from "../support/docker/attacker.ts";
import { describeWithDocker } from "../support/docker/engine.ts";
import { eventually, ROOT } from "../support/process/server.ts";
import { inFullRuns } from "../support/vitest/full-run.ts";

/**
 * Bounds for a coordinator under attack, far above the measured values: exceeding one means a
 * fault, not a slow machine.
 */
const SLOWEST_MS = 5_000;
const PEAK_MB = 1_024;

const FINISH = { finish: { title: "Done", summary: "Done." } };
/** Blocks a command until the test releases it. */
const HOLD: ScriptStep[] = [
  { bash: "echo holding" },
  { bash: "until [ -e /tmp/go ]; do sleep 0.2; done", timeoutMs: 300_000 },
  FINISH,
];

interface Try {
  readonly name: string;
  readonly status: number;
  readonly code: string | null;
}

/** The answer to each attempt by name: `status code`. */
function answers(text: string): Record<string, string> {
  const tries = text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Try);
  return Object.fromEntries(
    tries.map(({ name, status, code }) => [name, `${status} ${(code ?? "").replace(/^slipway: |\.?\n$/g, "")}`.trim()]),
  );
}

const SMART = "403 Only the smart HTTP protocol is served here";

const FORGED = {
  "no token": "401 unauthenticated",
  "another task's token": "401 unauthenticated",
  "another task's token for git": "401 unauthenticated",
  "an invented token": "401 unauthenticated",
  "the token with more behind it": "401 unauthenticated",
  "another attempt's batch": "410 stale_attempt",
  "attempt 0": "400 invalid_request",
  "a batch for another task": "400 invalid_request",
  "the path of another task": "404 not_found",
  "an event for people": "400 invalid_request",
  "an event that the coordinator makes": "400 invalid_request",
  "a type named __proto__": "400 invalid_request",
  "a type named constructor": "400 invalid_request",
  "a message in a person's name": "400 invalid_request",
  "a field too many": "400 invalid_request",
  "data of another type": "400 invalid_request",
  "a hole before the batch": "409 sequence_gap",
  "a hole in the batch": "400 invalid_request",
  "one number twice": "400 invalid_request",
  "numbers backwards": "400 invalid_request",
  "number 2^53": "400 invalid_request",
  "201 events": "400 invalid_request",
  "usage without end": "400 invalid_request",
  "usage of 1e308 dollars": "400 invalid_request",
  "usage of 2^53 tokens": "400 invalid_request",
  "JSON 100,000 levels deep": "400 invalid_request",
  "JSON 33 levels deep": "400 invalid_request",
  "bytes that are not UTF-8": "400 invalid_request",
  "no JSON": "400 invalid_request",
  "one gigabyte, announced": "413 payload_too_large",
  "one gigabyte, in pieces": "413 payload_too_large",
  "a header of 20 KB": "431 headers_too_large",
  "10,000 headers": "431 headers_too_large",
  "two lengths": "400 invalid_request",
  "length and pieces": "400 invalid_request",
  "another protocol": "400 invalid_request",
  "the people's door": "404 not_found",
  "the diary of operators": "404 not_found",
  "path tricks": "404 not_found",
  "a cursor below zero": "400 invalid_request",
  "an endless poll": "400 invalid_request",
  // Accepted: a task's own events about itself.
  "an upgrade": "200",
  "half a surrogate pair": "200",
  "keys of every object": "200",
  "a checkpoint that another task has": "200",
  "200 steps that never ended": "200",
  "the first event again": "200",
};

const RAW_GIT = {
  "another task's repository": "404 not_found",
  "another task's repository, by dots": "404 not_found",
  "another task's repository, by encoded dots": "404 not_found",
  "another task's repository, by encoded slashes": SMART,
  "two slashes": "404 not_found",
  "plain files": SMART,
  "plain objects": SMART,
  "the configuration": SMART,
  "refs without a service": SMART,
  "two services": SMART,
  "another service": SMART,
  "large files": "501",
  "a push that is no push": "415 The content type does not match the git service",
  "a packed push": "415 Send the push without Content-Encoding",
  "push options": "400 push options are not supported",
  "a signed push": "400 this is not a ref update",
  "a length that is no number": "400 a packet length is not hexadecimal",
  "a length out of range": "400 a packet length is out of range",
  "10 MB of shallow lines": "400 too many refs in one push",
  "a ref with a line end": "400 this is not a ref update",
  "a commit of another task": "200 not our ref",
};
const PROXY = [
  "CONNECT",
  "CONNECT to an address",
  "CONNECT to the coordinator",
  "a proxy's request",
  "a proxy's request with proxy authorization",
];

inFullRuns(describeWithDocker)("an agent that speaks to the broker itself", () => {
  let stage: AttackTarget;
  /** A task that runs beside the attackers and must not be affected. */
  let neighbour: { readonly id: string; readonly token: string; readonly sha: string };

  beforeAll(async () => {
    // The heap of a small machine: memory that is retained, not merely uncollected, ends this
    // coordinator. The guard inspects pushes; its limit for files is raised so that no question
    // about a large file is asked.
    const env = { NODE_OPTIONS: "--max-old-space-size=256", SLIPWAY_GUARD_FILE_MB: "100" };
    stage = await openAttackTarget({ maxConcurrent: 8, env });
    const work =
      "echo mine > mine.txt && git add mine.txt && git commit -qm mine && echo committed $(git rev-parse HEAD)";
    const id = await stage.submit([{ bash: work }, ...HOLD]);
    const [, sha = ""] = /committed (\w{40})/.exec(await stage.says(id, "committed")) ?? [];
    neighbour = { id, sha, token: await stage.token(id) };
  });
  afterAll(async () => await stage.close());

  /** A task whose container stays until `go`. */
  async function hold(before: readonly ScriptStep[] = []): Promise<string> {
    const id = await stage.submit([...before, ...HOLD]);
    await stage.says(id, "holding");
    return id;
  }
  const go = (id: string): Promise<string> => stage.execIn(id, ["touch", "/tmp/go"]);
  const run = (id: string, command: string): Promise<string> =>
    stage.execIn(id, ["node", "attack/ports.mjs", "run", command]);

  it("[S3] [S6] (81, 84, 86) forged events and requests are refused with a code, and change no other task", async () => {
    const id = await hold();
    const { id: other, sha, token } = neighbour;
    // The task's own worker may save a checkpoint or give a sign of life concurrently.
    const told = async () =>
      (await stage.server.events(other)).filter(
        ({ type, data }) => type !== "checkpoint" && data["code"] !== "working",
      );
    const before = await told();
    const { "accepted events": accepted, ...refused } = answers(
      await stage.execIn(id, ["node", "attack/forge.mjs", sha, other, token]),
    );
    expect(refused).toEqual(FORGED);
    // The task's own worker may save one or two checkpoints concurrently.
    expect([203, 204, 205]).toContain(Number(accepted));
    const events = await stage.server.events(id);
    expect(JSON.stringify(events)).not.toContain("history rewritten");
    expect(events).toContainEqual(
      expect.objectContaining({
        type: "notice",
        data: expect.objectContaining({ code: "checkpoint_missing" }) as unknown,
      }),
    );
    const { steps } = await stage.server.task(id);
    expect(steps.length).toBeLessThanOrEqual(64);
    expect(await told()).toEqual(before);
    expect(Object.hasOwn(Object.prototype, "polluted")).toBe(false);
  });

  it("[S3] [S4] (67, 85) git and proxy requests to other repositories and hosts are refused", async () => {
    const id = await hold();
    const said = answers(await stage.execIn(id, ["node", "attack/ports.mjs", "raw", neighbour.id, neighbour.sha]));
    // A sender that goes on after the answer may see the end of the connection before it sees the
    // answer.
    const answered = Object.entries(said).map(([name, answer]) => [
      name,
      answer === "0 EPIPE" ? RAW_GIT["10 MB of shallow lines"] : answer,
    ]);
    expect(Object.fromEntries(answered)).toMatchObject(RAW_GIT);
    for (const name of PROXY) expect([name, said[name]]).toEqual([name, expect.stringMatching(/^40[0347]\b/)]);
    await go(id);
    expect((await stage.settled(id)).task.state).toBe("done");
  });

  it("[S4] (67) pushes to other refs, deletions and tags are refused with a message; the upstream gets one branch", async () => {
    const id = await hold();
    const refs = [
      "HEAD:refs/heads/main",
      "HEAD:refs/heads/slipway/other",
      "HEAD:refs/tags/v1",
      "HEAD:refs/slipway/base",
      "HEAD:refs/slipway/checkpoints/99",
      "HEAD:refs/slipway/work2",
      "HEAD:refs/replace/" + stage.repo.sha,
      ":refs/slipway/work",
      ":refs/heads/main",
    ];
    const push = refs
      .map((ref) => `echo "== ${ref}"; git push -q --force "$REPO" "${ref}" 2>&1; echo "code $?"`)
      .join("\n");
    const said = await run(
      id,
      `git commit -q --allow-empty -m forged && git push -q "$REPO" HEAD:refs/slipway/work && ${push}\ngit push -q --mirror "$REPO" 2>&1; echo "code $?"`,
    );
    expect(said.match(/code 1/g)).toHaveLength(refs.length + 1);
    expect(said).not.toContain("code 0");
    expect(said).toMatch(/only refs\/slipway\/\S+ and \S+ can be pushed/);
    expect(said).toContain("refs are not deleted here");
    await go(id);
    const { task } = await stage.settled(id);
    expect(task).toMatchObject({ state: "done", outcome: "pushed" });
    const upstream = stage.upstream.git("app", "for-each-ref", "--format=%(refname) %(objectname)").split("\n");
    expect(upstream).toContain(`refs/heads/main ${stage.repo.sha}`);
    expect(
      upstream.filter((line) => !line.startsWith("refs/heads/main ") && !line.startsWith("refs/heads/slipway/")),
    ).toEqual([]);
    expect(upstream).toContain(`refs/heads/${task.branch} ${task.headSha}`);
  });

  it("[S4] (81) a report of a commit that is not there fails its own task", async () => {
    const report = (type: string, data: object): string =>
      `node --input-type=module -e 'import { acked, at, post } from "./attack/broker.mjs"; const seq = (await acked()) + 1;
       console.log((await post([{ seq, at, type: ${JSON.stringify(type)}, data: ${JSON.stringify(data)} }])).status)'`;
    const finished = await stage.attack(
      [{ bash: report("finished", { sha: neighbour.sha, title: "x", summary: "x" }) }, { wait: 60_000 }],
      { maxAttempts: 1 },
    );
    expect(finished.task).toMatchObject({ state: "failed", failure: { stage: "running" } });
    expect(finished.task.failure?.message).toContain("not in the task repository");
  });

  it("[D9] no failure that a worker causes counts as an engine fault: claiming continues, and attempts are used up", async () => {
    const failing = { fail: { code: "internal", message: "the coordinator's fault" } };
    const ends = await Promise.all([
      ...[1, 2, 3].map(() => stage.attack([failing], { maxAttempts: 2 })),
      ...[1, 2].map(() => stage.attack([{ exit: 0 }], { maxAttempts: 1 })),
    ]);
    for (const { task } of ends)
      expect(task).toMatchObject({ state: "failed", failure: { code: "attempts_exhausted" } });
    expect(ends.slice(0, 3).map(({ task }) => task.attempt)).toEqual([2, 2, 2]);
    expect((await stage.server.call("GET", "/v1/ops/overview")).body).toMatchObject({ queue: { breaker: "closed" } });
  });

  it("[S3] (87) the token of an ended attempt opens neither its own socket nor the next attempt's", async () => {
    const keep =
      "cat /proc/1/environ /run/slipway/attempt.json 2>/dev/null | grep -aom 1 'att_[A-Za-z0-9_-]*' | rev > token.txt";
    const die =
      'if [ "$SLIPWAY_ATTEMPT" = 1 ]; then until [ -e /tmp/go ]; do sleep 0.2; done; kill -9 $PPID; sleep 60; fi';
    const check = "node attack/check-token.mjs $(rev token.txt)";
    const id = await stage.submit([
      { bash: `if [ "$SLIPWAY_ATTEMPT" = 1 ]; then ${keep}; fi` },
      { bash: die },
      { bash: check },
      { bash: "rm token.txt" },
    ]);
    const saved = async () => (await stage.server.events(id)).some(({ type }) => type === "checkpoint") || null;
    await eventually(saved, "the token is saved with the work");
    await go(id);
    const { said, task, events } = await stage.settled(id);
    expect(task.attempt).toBe(2);
    const doors = answers(said.at(-2)?.output ?? "");
    expect(doors).toEqual({
      spec: "401 unauthenticated",
      events: "401 unauthenticated",
      commands: "401 unauthenticated",
      git: "401 unauthenticated",
    });
    expect(events.some((event) => event.data["code"] === "worker_lost")).toBe(true);
    expect(readdirSync(join(stage.data, "run")).filter((name) => name.startsWith(task.id))).toEqual([]);
  });

  it("[S6] (84) under floods of connections, slow requests and large bodies the coordinator answers others, in bounded memory", async () => {
    const ids = await Promise.all([hold(), hold(), hold()]);
    const pulse = watchPulse(stage.server);
    const [slow = "", connections = "", batches = ""] = await Promise.all(
      ["slow", "connections", "batches"].map((kind, i) =>
        stage.execIn(ids[i] ?? "", ["node", "attack/flood.mjs", kind]),
      ),
    );
    const felt = await pulse.stop();
    expect(JSON.parse(slow)).toMatchObject({ ended: 50 });
    expect((JSON.parse(slow) as { within: number }).within).toBeLessThan(60);
    // The kernel accepts every connection; the broker keeps 256.
    expect((JSON.parse(connections) as { held: number }).held).toBeLessThanOrEqual(256);
    // Some are refused for their content, the others because of their number, and on a slow machine
    // because their body takes longer than it may; a client that sends more afterwards may see only
    // the end of the connection.
    const {
      "0": _cut,
      "408": _slow,
      ...refused
    } = (JSON.parse(batches) as { statuses: Record<string, number> }).statuses;
    expect(Object.keys(refused)).toEqual(["400", "429"]);
    expect(felt.slowestMs).toBeLessThan(SLOWEST_MS);
    expect(felt.peakMb).toBeLessThan(PEAK_MB);
    for (const id of ids) await go(id);
    for (const id of ids) expect((await stage.settled(id)).task.state).toBe("done");
  });

  it("[S6] [F6] (79) a flood of valid events ends its own attempt at a bound, and many clients can read its log", async () => {
    const id = await hold();
    const pulse = watchPulse(stage.server);
    const end = JSON.parse(await stage.execIn(id, ["node", "attack/flood.mjs", "events"])) as {
      status: number;
      megabytes: number;
    };
    expect(end).toMatchObject({ status: 410, code: "stale_attempt" });
    expect(end.megabytes).toBeLessThan(150);
    const { task } = await stage.settled(id);
    expect(task).toMatchObject({ state: "failed", failure: { code: "agent_stuck" } });
    // Readers of the flooded log: HTTP clients that fetch it, subscribers that start at seq 1.
    const client = new SlipwayClient({ baseUrl: stage.server.url, token: stage.server.token, WebSocket });
    const watched = async (): Promise<number> => {
      let seen = 0;
      for await (const { seq } of client.watch(id)) expect(seq).toBe((seen += 1));
      return seen;
    };
    const fetched = async (): Promise<number> => (await stage.server.events(id)).length;
    const seen = await Promise.all(Array.from({ length: 4 }, (_, i) => (i % 2 === 0 ? fetched() : watched())));
    expect(seen).toEqual(seen.map(() => task.seq));
    const felt = await pulse.stop();
    expect(felt.slowestMs).toBeLessThan(SLOWEST_MS);
    expect(felt.peakMb).toBeLessThan(PEAK_MB);
  });

  it("[S6] (83) packs that expand to far more than their size: git refuses or streams, and the diff stays small", async () => {
    const id = await hold();
    const bomb = JSON.parse(await stage.execIn(id, ["node", "attack/bomb.mjs"])) as {
      bytes: number;
      status: number;
      text: string;
    };
    expect(bomb.bytes).toBeLessThan(100_000);
    expect(bomb.text).not.toContain("unpack ok");
    expect(
      await run(
        id,
        "head -c 20000000 /dev/zero | tr '\\0' '\\n' > lines && git add lines && git commit -qm lines && echo committed",
      ),
    ).toContain("committed");
    await go(id);
    const pulse = watchPulse(stage.server);
    const { task } = await stage.settled(id);
    expect(task).toMatchObject({ state: "done", outcome: "pushed" });
    const { body } = await stage.server.call("GET", `/v1/tasks/${id}/diff`);
    expect(body).toMatchObject({ files: [{ path: "lines", binary: true, patch: null }] });
    expect((await pulse.stop()).slowestMs).toBeLessThan(SLOWEST_MS);
  });

  it("[D3] [D5] [T1] [T4] after all of this the neighbour is done, nothing is left, and the checker finds nothing", async () => {
    await go(neighbour.id);
    const { task, events } = await stage.settled(neighbour.id);
    expect(task).toMatchObject({ state: "done", outcome: "pushed", attempt: 1, headSha: neighbour.sha });
    expect(
      events.filter(
        ({ type, data }) =>
          type === "usage" || (type === "notice" && !/^(?:step\.|working$)/.test(String(data["code"]))),
      ),
    ).toEqual([]);
    const { body } = await stage.server.call(
      "GET",
      "/v1/tasks?limit=100&state=running,provisioning,pushing,queued,retrying,cancelling",
    );
    for (const { id } of (body as { items: { id: string }[] }).items)
      await stage.server.call("POST", `/v1/tasks/${id}/cancel`);
    await eventually(async () => ((await stage.containers()).length === 0 ? true : null), "no container is left");
    const doors = (): string[] => readdirSync(join(stage.data, "run")).filter((name) => !name.startsWith("pool-"));
    await eventually(async () => (doors().length === 0 ? true : null), "no door is left");
    expect(existsSync(join(stage.data, "run", `${neighbour.id}-a1`))).toBe(false);
    expect(residentMb(stage.server.pid)).toBeLessThan(PEAK_MB);
    const { instance } = stage;
    const store = openSqliteReader({ dir: stage.data, migrations: join(ROOT, "migrations/sqlite") });
    const sandbox = openDockerSandbox({
      instance,
      workerFile: join(ROOT, "dist/worker.mjs"),
      dockerfile: join(ROOT, "Dockerfile"),
    });
    try {
      expect((await checkInvariants({ store, sandbox, maxConcurrent: 8 })).violations).toEqual([]);
    } finally {
      await sandbox.close();
      await store.close();
    }
  });
});
