/** Secrets at rest. */
import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { coerceError } from "../../src/core/error.ts";
import { loadKey, openVault } from "../../src/auth/vault.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "slipway-vault-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const CONTEXT = "git_credentials|github.com|user_a";
function refusal(act: () => unknown): string {
  try {
    act();
    return "no error";
  } catch (error) {
    return coerceError(error).code;
  }
}
/** The sealed text with one bit of its body turned. */
function turned(sealed: string, at: number): string {
  const [version, id, text = ""] = sealed.split(".");
  const bytes = Buffer.from(text, "base64");
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  return [version, id, bytes.toString("base64")].join(".");
}

describe("[S1] a sealed secret", () => {
  const key = randomBytes(32);
  const vault = openVault(key);

  it("opens with its key and context, and does not reveal the secret", () => {
    for (const secret of ["", "ghp_secret", "naïve ☃", "x".repeat(10_000)]) {
      const sealed = vault.seal(secret, CONTEXT);
      expect(openVault(Buffer.from(key)).open(sealed, CONTEXT)).toBe(secret);
      if (secret.length > 3)
        for (const form of [secret, Buffer.from(secret).toString("base64")]) expect(sealed).not.toContain(form);
    }
    expect(new Set(Array.from({ length: 100 }, () => vault.seal("same", CONTEXT))).size).toBe(100);
  });

  it("does not open for another row, another user or another key", () => {
    const sealed = vault.seal("ghp_secret", CONTEXT);
    for (const other of ["git_credentials|github.com|user_b", "git_credentials|evil.example|user_a", ""]) {
      expect(refusal(() => vault.open(sealed, other))).toBe("internal");
    }
    expect(refusal(() => openVault(randomBytes(32)).open(sealed, CONTEXT))).toBe("internal");
    const [version, , text] = sealed.split(".");
    const stranger = openVault(randomBytes(32));
    const theirs = stranger.seal("x", CONTEXT).split(".")[1];
    expect(refusal(() => stranger.open([version, theirs, text].join("."), CONTEXT))).toBe("internal");
  });

  it("does not open after any part was modified or cut off", () => {
    const sealed = vault.seal("ghp_secret", CONTEXT);
    const size = Buffer.from(sealed.split(".")[2] ?? "", "base64").length;
    expect(size).toBe(12 + 16 + "ghp_secret".length);
    for (let at = 0; at < size; at += 1)
      expect(
        refusal(() => vault.open(turned(sealed, at), CONTEXT)),
        String(at),
      ).toBe("internal");
    const [version, id, text = ""] = sealed.split(".");
    for (const short of [0, 12, 20, 27]) {
      const cut = Buffer.from(text, "base64").subarray(0, short).toString("base64");
      expect(
        refusal(() => vault.open([version, id, cut].join("."), CONTEXT)),
        String(short),
      ).toBe("internal");
    }
    for (const odd of ["", "v1", "v2.a.b", "ghp_plain"])
      expect(refusal(() => vault.open(odd, CONTEXT))).toBe("internal");
  });

  it("needs a key of 32 bytes", () => {
    for (const bytes of [0, 16, 31, 33]) expect(refusal(() => openVault(Buffer.alloc(bytes)))).toBe("config_invalid");
  });
});

describe("the key", () => {
  it("is created on first use, readable by its owner only, and stays", () => {
    const file = join(dir, "secret.key");
    const first = loadKey({ file, env: null });
    expect(first).toHaveLength(32);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(loadKey({ file, env: null })).toEqual(first);
    expect(loadKey({ file: join(dir, "other.key"), env: null })).not.toEqual(first);
  });

  it("is refused while other users can read its file", () => {
    const file = join(dir, "secret.key");
    loadKey({ file, env: null });
    for (const mode of [0o640, 0o604, 0o660]) {
      chmodSync(file, mode);
      expect(
        refusal(() => loadKey({ file, env: null })),
        mode.toString(8),
      ).toBe("config_invalid");
    }
  });

  it("[S1] is not repeated in the error that refuses it", () => {
    expect(() => loadKey({ file: join(dir, "secret.key"), env: "short-one" })).toThrow(
      /^SLIPWAY_SECRET_KEY must contain 32 bytes(?!.*short-one)/,
    );
  });

  it("is read from the environment before the file, in both encodings", () => {
    const key = randomBytes(32);
    const file = join(dir, "secret.key");
    for (const env of [
      key.toString("hex"),
      key.toString("hex").toUpperCase(),
      key.toString("base64"),
      key.toString("base64").replace("=", ""),
    ]) {
      expect(loadKey({ file, env })).toEqual(key);
    }
    expect(existsSync(file)).toBe(false);
  });

  it("is refused from any source when it is invalid", () => {
    const file = join(dir, "secret.key");
    for (const text of [
      "",
      "short",
      "0".repeat(63),
      randomBytes(31).toString("base64"),
      randomBytes(33).toString("base64"),
      "!".repeat(44),
    ]) {
      expect(
        refusal(() => loadKey({ file, env: text })),
        text,
      ).toBe("config_invalid");
      writeFileSync(file, text, { mode: 0o600 });
      expect(
        refusal(() => loadKey({ file, env: null })),
        text,
      ).toBe("config_invalid");
    }
  });
});
