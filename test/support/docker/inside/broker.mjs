// What an injected agent can do once it has read the attempt's token: speak to the broker itself.
// Prints one line of JSON per try.
import { existsSync, readFileSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";

export const SOCKET = "/run/slipway/b.sock";
/**
 * In the environment of a worker that was made for its attempt, in a file where it had waited for
 * one.
 */
export const token = () => {
  const assigned = process.env.SLIPWAY_ASSIGNMENT ?? "/run/slipway/attempt.json";
  if (existsSync(assigned)) return JSON.parse(readFileSync(assigned, "utf8")).token;
  return /SLIPWAY_TOKEN=([^\0]+)/.exec(readFileSync("/proc/1/environ", "utf8"))?.[1] ?? "";
};
export const attempt = Number(process.env.SLIPWAY_ATTEMPT ?? 1);

/** One request; what was answered, or why nothing was. `path` goes out as it is written. */
export function call(method, path, { body, headers = {}, as = token(), chunks = null, timeoutMs = 20_000 } = {}) {
  return new Promise((done) => {
    const sent = { ...(as === null ? {} : { authorization: `Bearer ${as}` }), ...headers };
    const options = { socketPath: SOCKET, method, path, headers: sent, agent: false, timeout: timeoutMs };
    const outgoing = request(options, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (piece) => (text = (text + piece).slice(0, 100_000)));
      response.on("error", () => {});
      response.on("close", () => done({ status: response.statusCode, code: parseCode(text), text }));
    });
    outgoing.on(
      "connect",
      (response, socket) => (
        socket.destroy(),
        done({ status: response.statusCode, code: response.statusCode === 200 ? "connected" : null, text: "" })
      ),
    );
    outgoing.on("upgrade", (response, socket) => (socket.destroy(), done({ status: 101, code: "upgraded", text: "" })));
    outgoing.on("timeout", () => outgoing.destroy(new Error("timeout")));
    outgoing.on("error", (error) => done({ status: 0, code: error.code ?? error.message, text: "" }));
    if (chunks === null) return outgoing.end(body);
    const feed = () => {
      for (;;) {
        const piece = chunks();
        if (piece === null) return outgoing.end();
        if (!outgoing.write(piece)) return outgoing.once("drain", feed);
      }
    };
    feed();
  });
}

function parseCode(text) {
  try {
    return JSON.parse(text).code ?? null;
  } catch {
    return text.slice(0, 80);
  }
}

export const report = (name, answer) => console.log(JSON.stringify({ name, status: answer.status, code: answer.code }));
export const at = "2026-01-01T00:00:00.000Z";
export const post = (events, more = {}) =>
  call("POST", "/worker/v1/events", {
    body: JSON.stringify({ attempt, events, ...more }),
    headers: { "content-type": "application/json" },
  });
export const raw = (body) =>
  call("POST", "/worker/v1/events", { body, headers: { "content-type": "application/json" } });
/** The number of the worker's last event that the coordinator has. */
export const acked = async () => JSON.parse((await post([])).text).ack;

/** Bytes as they are, on a connection of our own; the answer's first line. */
export function bytes(text, { linger = 5_000 } = {}) {
  return new Promise((done) => {
    const socket = connect(SOCKET, () => socket.write(text));
    let answer = "";
    const end = (why) => (
      socket.destroy(),
      done({ status: Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? 0), code: why, text: answer })
    );
    socket.on("data", (piece) => (answer += piece.toString("latin1")));
    socket.on("error", (error) => end(error.code));
    socket.on("close", () => end("closed"));
    setTimeout(() => end("open"), linger).unref();
  });
}
