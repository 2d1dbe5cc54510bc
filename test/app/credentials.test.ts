/** The git credential of a task's owner, as the coordinator reads it. */
import { randomBytes } from "node:crypto";
import { beforeEach, describe, expect, it } from "vitest";
import { findGitAuth } from "../../src/app/secrets.ts";
import { credentialContext, openVault, type Vault } from "../../src/auth/vault.ts";
import type { Accounts } from "../../src/core/ports/accounts.ts";
import type { Log } from "../../src/core/ports/runtime.ts";
import type { CredentialUse } from "../../src/core/protocol/repositories.ts";
import { openMemoryStore } from "../../src/store/memory/store.ts";
import { createManualClock } from "../support/manual-clock.ts";

const HOST = "github.com";
let accounts: Accounts;
let lines: string[];
const ignore = (): void => undefined;
const log: Log = { debug: ignore, info: ignore, warn: ignore, error: (_, text) => void lines.push(text) };
const vault = openVault(randomBytes(32));

beforeEach(() => {
  ({ accounts } = openMemoryStore());
  lines = [];
});
async function save(sealed: string): Promise<void> {
  await accounts.createUser({
    id: "user_a",
    email: "a@x",
    passwordHash: "",
    role: "user",
    createdAt: 0,
    disabledAt: null,
  });
  await accounts.putCredential({
    id: "cred_a",
    userId: "user_a",
    host: HOST,
    username: null,
    sealed,
    createdAt: 0,
    check: null,
    lastUsedAt: null,
    lastUse: null,
  });
}
const clock = createManualClock();
const find = (opener: Vault, use?: CredentialUse) =>
  findGitAuth({ accounts, grants: { toToken }, vault: opener, log, clock }, "user_a", HOST, use);
/** None of them was granted. */
async function toToken(_: object, opened: string): Promise<string> {
  return opened;
}

describe("a saved git credential", () => {
  it("[D9] is opened with the key that sealed it", async () => {
    await save(vault.seal("secret", credentialContext("user_a", HOST)));
    expect(await find(vault)).toEqual({ username: "x-access-token", token: "secret" });
    expect(lines).toEqual([]);
  });

  it.each([
    ["sealed with another key", () => openVault(randomBytes(32)).seal("secret", credentialContext("user_a", HOST))],
    ["of another row", () => vault.seal("secret", credentialContext("user_b", HOST))],
    ["that is no sealed text", () => "v0.nothing"],
    ["that was cut", () => vault.seal("secret", credentialContext("user_a", HOST)).slice(0, -12)],
    ["that is empty", () => ""],
  ])("[D9] one %s is repo_auth, says so, and is named in the log", async (_, sealed) => {
    await save(sealed());
    await expect(find(vault)).rejects.toMatchObject({ code: "repo_auth", message: /Save it again/ });
    expect(lines).toEqual(["a saved git credential cannot be opened"]);
  });

  it("[V10] each use is recorded with its purpose, the same one once a minute, and no use of one that is not shown", async () => {
    await save(vault.seal("secret", credentialContext("user_a", HOST)));
    const read = { purpose: "read", repo: `https://${HOST}/team/app` } as const;
    const last = async () => {
      const [row] = await accounts.credentials("user_a");
      return [row?.lastUsedAt, row?.lastUse];
    };
    await find(vault);
    expect(await last()).toEqual([null, null]);
    await find(vault, read);
    const first = clock.now();
    await clock.advance(59_999);
    await find(vault, read);
    expect(await last()).toEqual([first, read]);
    await find(vault, { ...read, purpose: "push" });
    expect(await last()).toEqual([clock.now(), { ...read, purpose: "push" }]);
    await clock.advance(60_000);
    await find(vault, { ...read, purpose: "push" });
    expect(await last()).toEqual([clock.now(), { ...read, purpose: "push" }]);
  });
});
