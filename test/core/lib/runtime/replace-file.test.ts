/** Small files on a disk that takes no more. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { recordServer } from "../../../../src/app/data-folder/data-folder.ts";
import { loadOperatorToken } from "../../../../src/app/secrets.ts";
import { loadKey } from "../../../../src/auth/vault.ts";
import { replaceFile } from "../../../../src/core/lib/runtime/replace-file.ts";
import { openRepositories } from "../../../../src/git/repositories.ts";
import { quiet } from "../../../support/coordinator/harness.ts";
import { hasPrlimit } from "../../../support/process/descriptors.ts";

let dir: string;
beforeEach(() => void (dir = mkdtempSync(join(tmpdir(), "slipway-files-"))));
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const setLimit = (bytes: string): void =>
  void execFileSync("prlimit", ["--pid", String(process.pid), `--fsize=${bytes}:`], { stdio: "ignore" });

/** No file grows while `work` runs: each write fails. */
function withFullDisk(work: () => void): unknown {
  setLimit("0");
  try {
    work();
    return null;
  } catch (error) {
    return error;
  } finally {
    setLimit("unlimited");
  }
}

describe.runIf(hasPrlimit)("[M9] on a full disk", () => {
  it("a file keeps its content and no draft is left", () => {
    replaceFile(join(dir, "a"), "before");
    expect(withFullDisk(() => replaceFile(join(dir, "a"), "after"))).toMatchObject({ code: "EFBIG" });
    expect([readFileSync(join(dir, "a"), "utf8"), readdirSync(dir)]).toEqual(["before", ["a"]]);
  });

  it("the operator's token and the key are created whole or not at all", () => {
    for (const create of [() => loadOperatorToken(dir), () => loadKey({ file: join(dir, "secret.key"), env: null })]) {
      expect(withFullDisk(create)).toMatchObject({ code: "EFBIG" });
      expect(readdirSync(dir)).toEqual([]);
    }
    expect(loadOperatorToken(dir)).toMatch(/^[\w-]{43}$/);
  });

  it("a start writes none of the files that it finds as they are to be", () => {
    recordServer(dir, "http://localhost:1", quiet);
    openRepositories({ dir: join(dir, "git"), trustedHosts: [] });
    const files = ["server.json", "git/askpass.sh", "git/binary.attributes"].map((name) => join(dir, name));
    const before = files.map((file) => [readFileSync(file, "utf8"), statSync(file).mode]);
    const failure = withFullDisk(() => {
      recordServer(dir, "http://localhost:1", quiet);
      openRepositories({ dir: join(dir, "git"), trustedHosts: [] });
    });
    expect(failure).toBeNull();
    expect(files.map((file) => [readFileSync(file, "utf8"), statSync(file).mode])).toEqual(before);
  });

  it("a start whose address cannot be recorded goes on, and the address of an earlier one is removed", () => {
    recordServer(dir, "http://localhost:1", quiet);
    expect(withFullDisk(() => recordServer(dir, "http://localhost:2", quiet))).toBeNull();
    expect(readdirSync(dir)).toEqual([]);
  });
});

it("[M9] an empty token, left by an earlier version on a full disk, is replaced; another is kept", () => {
  writeFileSync(join(dir, "operator.token"), "");
  const token = loadOperatorToken(dir);
  expect(token).toMatch(/^[\w-]{43}$/);
  expect(loadOperatorToken(dir)).toBe(token);
});

it("[S1] the mode is exact, whatever the umask and the file that is there", () => {
  const before = process.umask(0o077);
  try {
    writeFileSync(join(dir, "a"), "x", { mode: 0o644 });
    replaceFile(join(dir, "a"), "x", 0o700);
    replaceFile(join(dir, "b"), "x", 0o755);
  } finally {
    process.umask(before);
  }
  expect(["a", "b"].map((name) => statSync(join(dir, name)).mode & 0o777)).toEqual([0o700, 0o755]);
  expect(existsSync(join(dir, "b.new"))).toBe(false);
});
