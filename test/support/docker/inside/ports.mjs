// Git over the broker's socket, as any program in the container can have it: a loopback port that
// leads to the socket, and raw requests. `node ports.mjs run <command>` runs a shell command with
// $REPO, $TOKEN set `node ports.mjs raw <other task> <sha>` raw requests
import { spawn } from "node:child_process";
import { connect, createServer } from "node:net";
import { bytes, call, report, SOCKET, token } from "./broker.mjs";

const [mode, ...rest] = process.argv.slice(2);
if (mode === "run") await run(rest.join(" "));
else await raw(...rest);

async function run(command) {
  const server = createServer((from) => {
    const to = connect(SOCKET);
    from.on("error", () => to.destroy()).pipe(to);
    to.on("error", () => from.destroy()).pipe(from);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const repo = `http://x:${token()}@127.0.0.1:${server.address().port}/git/repo.git`;
  const env = { ...process.env, REPO: repo, TOKEN: token(), GIT_TERMINAL_PROMPT: "0", HOME: "/tmp" };
  const child = spawn("bash", ["-c", command], { stdio: ["ignore", "inherit", "inherit"], env });
  const code = await new Promise((done) => child.on("exit", done));
  process.exit(code ?? 1);
}

async function raw(other, sha) {
  const pkt = (text) => (text.length + 4).toString(16).padStart(4, "0") + text;
  const zero = "0".repeat(40);
  const receive = (body, headers = {}) =>
    call("POST", "/git/repo.git/git-receive-pack", {
      body,
      headers: { "content-type": "application/x-git-receive-pack-request", ...headers },
    });
  const upload = (body) =>
    call("POST", "/git/repo.git/git-upload-pack", {
      body,
      headers: { "content-type": "application/x-git-upload-pack-request" },
    });
  const refs = "info/refs?service=git-upload-pack";
  const shallow = pkt(`shallow ${sha}\n`);
  const tries = {
    "another task's repository": () => call("GET", `/git/${other}.git/${refs}`),
    "another task's repository, by dots": () => call("GET", `/git/repo.git/../${other}.git/${refs}`),
    "another task's repository, by encoded dots": () => call("GET", `/git/repo.git/%2e%2e/${other}.git/${refs}`),
    "another task's repository, by encoded slashes": () => call("GET", `/git/repo.git/..%2f${other}.git%2f${refs}`),
    "two slashes": () => call("GET", `/git//repo.git/${refs}`),
    "plain files": () => call("GET", "/git/repo.git/HEAD"),
    "plain objects": () => call("GET", "/git/repo.git/objects/info/alternates"),
    "the configuration": () => call("GET", "/git/repo.git/config"),
    "refs without a service": () => call("GET", "/git/repo.git/info/refs"),
    "two services": () => call("GET", "/git/repo.git/info/refs?service=git-upload-pack&service=git-receive-pack"),
    "another service": () => call("GET", "/git/repo.git/info/refs?service=git-upload-archive"),
    "large files": () => call("POST", "/git/repo.git/info/lfs/objects/batch", { body: "{}" }),
    "a push that is no push": () => receive("0000", { "content-type": "text/plain" }),
    "a packed push": () => receive("0000", { "content-encoding": "gzip" }),
    "push options": () => receive(`${pkt(`${zero} ${sha} refs/slipway/work\0report-status push-options\n`)}0000`),
    "a signed push": () => receive(`${pkt("push-cert\0report-status\n")}0000`),
    "a length that is no number": () => receive("zzzz"),
    "a length out of range": () => receive("fff5"),
    "10 MB of shallow lines": () => receive(shallow.repeat(Math.ceil(10_000_000 / shallow.length))),
    "a ref with a line end": () => receive(`${pkt(`${zero} ${sha} refs/heads/a\nb\0report-status`)}0000`),
    "a commit of another task": () => upload(`${pkt(`want ${sha}\n`)}0000${pkt("done\n")}`),
    CONNECT: () => call("CONNECT", "example.com:443"),
    "CONNECT to an address": () => call("CONNECT", "169.254.169.254:80"),
    "CONNECT to the coordinator": () => call("CONNECT", "127.0.0.1:7080"),
    "a proxy's request": () =>
      bytes(
        `GET http://example.com/ HTTP/1.1\r\nhost: example.com\r\nauthorization: Bearer ${token()}\r\nconnection: close\r\n\r\n`,
      ),
    "a proxy's request with proxy authorization": () =>
      bytes(
        `GET http://169.254.169.254/latest/meta-data/ HTTP/1.1\r\nhost: x\r\nproxy-authorization: Bearer ${token()}\r\nauthorization: Bearer ${token()}\r\nconnection: close\r\n\r\n`,
      ),
  };
  for (const [name, attack] of Object.entries(tries)) {
    const answer = await attack();
    const refused = /ERR [^\n\0]*not our ref/.exec(answer.text)?.[0];
    report(name, refused === undefined ? answer : { status: answer.status, code: "not our ref" });
  }
}
