/** The git credential of a task's owner, as the coordinator reads it. */
import { randomBytes } from "node:crypto";
import { beforeEach, describe, expect, it } from "vitest";
import { findGitAuth } from "../../src/app/wiring.ts";
import { credentialContext, openVault, type Vault } from "../../src/auth/vault.ts";
import type { Accounts } from "../../src/core/ports/accounts.ts";
import type { Log } from "../../src/core/ports/runtime.ts";
import { openMemoryStore } from "../../src/store/memory/store.ts";

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
  });
}
const find = (opener: Vault) => findGitAuth({ accounts, vault: opener, log }, "user_a", HOST);

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
});
