// Floods of the broker. `node flood.mjs connections|slow|events|batches`; prints one line of JSON
// about how it went.
import { connect } from "node:net";
import { acked, at, attempt, call, post, SOCKET, token } from "./broker.mjs";

const seconds = (from) => (performance.now() - from) / 1_000;

/** 10,000 silent connections, as many at once as this process may open. */
async function connections() {
  let [made, refused] = [0, 0];
  const open = new Set();
  const dial = () =>
    new Promise((done) => {
      const socket = connect(SOCKET);
      open.add(socket);
      socket.on("connect", () => ((made += 1), setTimeout(done, 5)));
      socket.on("error", () => ((refused += 1), open.delete(socket), done()));
      socket.on("close", () => open.delete(socket));
    });
  for (let round = 0; round < 40; round += 1) await Promise.all(Array.from({ length: 250 }, dial));
  // The kernel accepts more than the broker keeps; what the broker has seen and does not keep is
  // closed.
  for (let waited = 0; open.size > 256 && waited < 100; waited += 1) await new Promise((done) => setTimeout(done, 100));
  const held = open.size;
  for (const socket of open) socket.destroy();
  return { made, refused, held };
}

/** Requests that never come to an end: headers one byte at a time, and bodies that stay away. */
async function slow() {
  const head = `POST /worker/v1/events HTTP/1.1\r\nhost: b\r\nauthorization: Bearer ${token()}\r\n`;
  const begun = performance.now();
  const ends = Array.from({ length: 50 }, (_, i) => {
    const socket = connect(SOCKET);
    socket.on("error", () => {});
    socket.write(i % 2 === 0 ? head : "POST ");
    const drip = setInterval(() => socket.writable && socket.write("x"), 500);
    return new Promise((done) => socket.resume().on("close", () => (clearInterval(drip), done(seconds(begun)))));
  });
  return { ended: (await Promise.all(ends)).length, within: Math.ceil(Math.max(...(await Promise.all(ends)))) };
}

/** Bodies of 2 MB that are refused only after they were read, on many connections at once. */
async function batches() {
  const text = "x".repeat(60_000);
  const wrong = { seq: 2 ** 40, at, type: "notice", data: { level: "info", code: "x", text: "x", more: text } };
  const body = JSON.stringify({ attempt, events: Array.from({ length: 30 }, () => wrong) });
  const statuses = {};
  const begun = performance.now();
  const one = async () => {
    while (seconds(begun) < 3) {
      const { status } = await call("POST", "/worker/v1/events", { body });
      statuses[status] = (statuses[status] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: 40 }, one));
  return { statuses };
}

/** Valid events, as many and as large as are taken, until they are not. */
async function events() {
  const text = "x".repeat(60_000);
  let seq = await acked();
  let sent = 0;
  const begun = performance.now();
  for (;;) {
    const batch = Array.from({ length: 30 }, () => {
      seq += 1;
      return {
        seq,
        at,
        type: "message",
        data: { id: `m${seq}`, role: "assistant", content: [{ type: "text", text }] },
      };
    });
    const { status, code } = await post(batch);
    if (status !== 200 || seconds(begun) > 60) return { status, code, megabytes: Math.round(sent / 1e6) };
    sent += 30 * text.length;
  }
}

console.log(JSON.stringify(await { connections, slow, batches, events }[process.argv[2]]()));
