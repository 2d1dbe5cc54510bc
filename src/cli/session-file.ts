/** The sessions of `slipway login`, by server, in one file that only its owner can read. */
import { chmodSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import type { Session, SessionStore } from "../client/types.ts";

type Sessions = Readonly<Record<string, Session>>;

export function sessionFilePath(env: NodeJS.ProcessEnv): string {
  if (env["SLIPWAY_SESSIONS"]) return env["SLIPWAY_SESSIONS"];
  return join(env["XDG_CONFIG_HOME"] || join(homedir(), ".config"), "slipway", "sessions.json");
}

export function openSessionFile(url: string, env: NodeJS.ProcessEnv): SessionStore {
  const path = sessionFilePath(env);
  const origin = new URL(url).origin;
  return {
    load: () => read(path)[origin] ?? null,
    save(session) {
      const { [origin]: _, ...others } = read(path);
      write(path, session === null ? others : { ...others, [origin]: session });
    },
  };
}

/** A missing or invalid file counts as empty: the next login writes a new one. */
function read(path: string): Sessions {
  try {
    const body: unknown = JSON.parse(readFileSync(path, "utf8"));
    return Object.fromEntries(
      Object.entries(body ?? {}).filter((entry): entry is [string, Session] => isSession(entry[1])),
    );
  } catch {
    return {};
  }
}

function isSession(value: unknown): value is Session {
  if (typeof value !== "object" || value === null) return false;
  return (
    "accessToken" in value &&
    typeof value.accessToken === "string" &&
    "refreshToken" in value &&
    typeof value.refreshToken === "string"
  );
}

/** Replaces the file atomically. */
function write(path: string, sessions: Sessions): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, `${JSON.stringify(sessions, null, 2)}\n`, { mode: 0o600 });
  chmodSync(draft, 0o600);
  renameSync(draft, path);
}
