// Forged worker events and requests that no worker sends. `node forge.mjs <sha that another task
// has> <id of another task> <its token>`
import { acked, at, attempt, bytes, call, post, raw, report, token } from "./broker.mjs";

const [foreignSha, foreignTask, foreignToken] = process.argv.slice(2);
const first = await acked();
let start = first;
const event = (seq, type, data) => ({ seq, at, type, data });
const next = (type, data) => [event(start + 1, type, data)];
const notice = { level: "info", code: "x", text: "x" };
const nothing = { inputTokens: 0, outputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0, usd: 0, turns: 0 };
const step = { name: "setup", status: "ended", detail: null };
const tool = (input) =>
  raw(
    `{"attempt":${attempt},"events":[{"seq":${start + 1},"at":"${at}","type":"tool.started","data":{"id":"a","name":"b","input":${input}}}]}`,
  );
const endless = (bytesLeft) => () => (bytesLeft <= 0 ? null : ((bytesLeft -= 65_536), " ".repeat(65_536)));

const tries = {
  "no token": () => call("GET", "/worker/v1/spec", { as: null }),
  "another task's token": () => call("GET", "/worker/v1/spec", { as: foreignToken }),
  "another task's token for git": () =>
    call("GET", "/git/repo.git/info/refs?service=git-upload-pack", { as: foreignToken }),
  "an invented token": () => call("GET", "/worker/v1/spec", { as: `att_${"A".repeat(43)}` }),
  "the token with more behind it": () => call("GET", "/worker/v1/spec", { as: `${token()}A` }),
  "another attempt's batch": () => raw(JSON.stringify({ attempt: attempt + 1, events: [] })),
  "attempt 0": () => raw(JSON.stringify({ attempt: 0, events: [] })),
  "a batch for another task": () => raw(JSON.stringify({ attempt, taskId: foreignTask, events: [] })),
  "the path of another task": () => call("GET", `/worker/v1/tasks/${foreignTask}/spec`),
  "an event for people": () => post(next("task.state", { reason: "done" })),
  "an event that the coordinator makes": () => post(next("push", { branch: "main", sha: foreignSha })),
  "a type named __proto__": () => post(next("__proto__", {})),
  "a type named constructor": () => post(next("constructor", {})),
  "a message in a person's name": () => post(next("message", { id: "m", role: "user", content: [] })),
  "a field too many": () => post([{ ...event(start + 1, "notice", notice), taskId: foreignTask }]),
  "data of another type": () => post(next("notice", { ...notice, level: "fatal" })),
  "a hole before the batch": () => post([event(start + 3, "notice", notice)]),
  "a hole in the batch": () => post([event(start + 1, "notice", notice), event(start + 3, "notice", notice)]),
  "one number twice": () => post([event(start + 1, "notice", notice), event(start + 1, "notice", notice)]),
  "numbers backwards": () =>
    post([event(start + 1, "notice", notice), event(start + 3, "notice", notice), event(start + 2, "notice", notice)]),
  "number 2^53": () => post([event(2 ** 53, "notice", notice)]),
  "201 events": () => post(Array.from({ length: 201 }, (_, i) => event(start + 1 + i, "notice", notice))),
  "usage without end": () =>
    raw(JSON.stringify({ attempt, events: next("usage", { ...nothing, usd: 7 }) }).replace('"usd":7', '"usd":1e309')),
  "usage of 1e308 dollars": () => post(next("usage", { ...nothing, usd: 1e308 })),
  "usage of 2^53 tokens": () => post(next("usage", { ...nothing, inputTokens: 2 ** 53 - 1 })),
  "JSON 100,000 levels deep": () => tool(`${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}`),
  "JSON 33 levels deep": () => tool(`${'{"a":'.repeat(33)}1${"}".repeat(33)}`),
  "bytes that are not UTF-8": () => raw(Buffer.from([0x7b, 0xff, 0xfe, 0x7d])),
  "half a surrogate pair": () => tool('{"command":"\\ud800"}'),
  "keys of every object": () =>
    tool('{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"toString":null}'),
  "no JSON": () => raw("{"),
  "one gigabyte, announced": () =>
    bytes(
      `POST /worker/v1/events HTTP/1.1\r\nhost: b\r\nauthorization: Bearer ${token()}\r\ncontent-length: 1000000000\r\n\r\n`,
    ).then(coded),
  "one gigabyte, in pieces": () => call("POST", "/worker/v1/events", { chunks: endless(1e9) }).then(cut),
  "a header of 20 KB": () => call("GET", "/worker/v1/spec", { headers: { "x-long": "x".repeat(20_000) } }),
  "10,000 headers": () =>
    bytes(`GET /worker/v1/spec HTTP/1.1\r\nhost: b\r\n${"x: y\r\n".repeat(10_000)}\r\n`).then(coded),
  "two lengths": () =>
    bytes(`POST /worker/v1/events HTTP/1.1\r\nhost: b\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}`).then(coded),
  "length and pieces": () =>
    bytes(
      `POST /worker/v1/events HTTP/1.1\r\nhost: b\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
    ).then(coded),
  "another protocol": () => bytes("\u0016\u0003\u0001 hello\r\n\r\n").then(coded),
  "an upgrade": () => call("GET", "/worker/v1/spec", { headers: { connection: "Upgrade", upgrade: "websocket" } }),
  "the people's door": () => call("GET", "/v1/tasks"),
  "the diary of operators": () => call("GET", "/metrics"),
  "path tricks": () => call("GET", "/worker/v1/../../v1/tasks"),
  "a cursor below zero": () => call("GET", "/worker/v1/commands?after=-1"),
  "an endless poll": () => call("GET", "/worker/v1/commands?wait=100000"),
  "a checkpoint that another task has": () =>
    post(next("checkpoint", { sha: foreignSha, cursor: null, files: 0, additions: 0, deletions: 0 })),
  "200 steps that never ended": () =>
    post(Array.from({ length: 200 }, (_, i) => event(start + 1 + i, "task.step", step))),
  "the first event again": () => post([event(1, "notice", { ...notice, text: "history rewritten" })]),
};

function coded(answer) {
  const body = answer.text.slice(answer.text.indexOf("\r\n\r\n") + 4);
  return { ...answer, code: /"code":"(\w+)"/.exec(body)?.[1] ?? answer.code };
}

/**
 * The sender may lose the race between the answer and the end of the connection; both are a
 * refusal.
 */
const cut = (answer) =>
  answer.status === 0 && /EPIPE|ECONNRESET/.test(answer.code) ? { status: 413, code: "payload_too_large" } : answer;

for (const [name, attack] of Object.entries(tries)) {
  start = await acked();
  report(name, await attack());
}
console.log(JSON.stringify({ name: "accepted events", status: (await acked()) - first, code: null }));
