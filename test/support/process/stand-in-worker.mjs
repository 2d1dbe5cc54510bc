/**
 * Replaces the worker in tests that concern only its process. The token selects the behaviour:
 * exit:<code>, sleep, deaf (ignores SIGTERM), family (starts a child in another session, then
 * sleeps), memory (a child is killed for its memory, then sleeps), print, env, run:<shell command>.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { connect } from "node:net";

const { SLIPWAY_ASSIGNMENT: file } = process.env;
if (file !== undefined) {
  while (!existsSync(file)) await new Promise((resolve) => setTimeout(resolve, 20));
  const { token, attempt } = JSON.parse(readFileSync(file, "utf8"));
  Object.assign(process.env, { SLIPWAY_TOKEN: token, SLIPWAY_ATTEMPT: String(attempt) });
}

const [behaviour, value] = (process.env.SLIPWAY_TOKEN ?? "").split(/:(.*)/s);
console.log(`started attempt ${process.env.SLIPWAY_ATTEMPT}`);
/** Reports to the broker's socket that the signal handlers are installed, and keeps running. */
function forever() {
  connect(process.env.SLIPWAY_SOCKET)
    .on("error", () => undefined)
    .end("up");
  setInterval(() => undefined, 1_000);
}

switch (behaviour) {
  case "exit":
    process.exitCode = Number(value);
    break;
  case "sleep":
    process.on("SIGTERM", () => {
      console.log("told to stop");
      process.exit(0);
    });
    forever();
    break;
  case "deaf":
    process.on("SIGTERM", () => console.log("will not stop"));
    forever();
    break;
  case "family": {
    const child = spawn(process.execPath, ["-e", "process.on('SIGTERM', () => {}); setInterval(() => {}, 1000)"], {
      detached: true,
      stdio: "ignore",
    });
    console.log(`child ${child.pid}`);
    process.on("SIGTERM", () => process.exit(0));
    forever();
    break;
  }
  case "memory":
    spawn(
      process.execPath,
      ["-e", "const held = []; setInterval(() => held.push(Buffer.alloc(16 * 1024 * 1024, 1)), 5)"],
      { stdio: "ignore" },
    );
    forever();
    break;
  case "print":
    for (let line = 0; line < 20_000; line++) console.log(`line ${line} ${"x".repeat(80)}`);
    console.log("the last words");
    break;
  case "env":
    console.log(Object.keys(process.env).sort().join(" "));
    console.log(Object.values(process.env).join(" "));
    break;
  case "run":
    try {
      console.log(execFileSync("/bin/bash", ["-c", value], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }));
    } catch (error) {
      console.log(error.stdout, error.stderr);
      process.exitCode = error.status ?? 1;
    }
    break;
  default:
    console.error(`unknown: ${behaviour}`);
    process.exitCode = 64;
}
