/** Git hosts that announce what no repository has. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { isBranchName } from "../../src/git/branch/branch-name.ts";
import { openRepositories } from "../../src/git/repositories.ts";
import { errorCode } from "../contract/repositories.ts";
import { startHostileHost, type HostileAnswers, type HostileHost } from "../support/hostile/git-host.ts";
import { git } from "../support/repository.ts";
import { PATIENCE_MS } from "../support/vitest/patience.ts";

let host: HostileHost | null = null;
let dir: string | null = null;
afterEach(async () => {
  await host?.close();
  if (dir !== null) rmSync(dir, { recursive: true, force: true });
  host = null;
  dir = null;
});

async function prepare(answers: HostileAnswers): Promise<string> {
  host = await startHostileHost(answers);
  dir = mkdtempSync(join(tmpdir(), "slipway-hostile-"));
  const repos = openRepositories({ dir, trustedHosts: [host.host] });
  const asked = { taskId: "task_a", userId: "user_a", repo: host.url, auth: null, base: null, parentTaskId: null };
  const code = await errorCode(repos.prepare(asked, AbortSignal.timeout(PATIENCE_MS)));
  await repos.close();
  return code;
}

const SHA = "1".repeat(40);
const head = (name: string, sha = SHA): string => `${sha} HEAD symref-target:refs/heads/${name}`;

describe("a default branch that cannot be one", () => {
  it.each(["m..n", "a/.b", "a.lock", "a//b", "-b", "@", "a@{b", "x".repeat(201), "a\u001b[31m", "a\\b", "HEAD"])(
    "[D9] %j ends the task with branch_not_found",
    async (name) => {
      expect(await prepare({ refs: [head(name)] })).toBe("branch_not_found");
    },
  );

  it("[D9] SHA-256 object names end the task with a reason", async () => {
    expect(await prepare({ refs: [head("main", "1".repeat(64))], objects: "sha256" })).toBe("repo_not_found");
  });

  it("[D9] no branch at all is branch_not_found", async () => {
    expect(await prepare({ refs: [] })).toBe("branch_not_found");
  });
});

it("[D9] every name that passes is one that git accepts", async () => {
  const letters = ["a", "B", ".", "/", "-", "@", "{", "}", "~", "^", ":", "?", "*", "[", "\\", " ", "\t", "ü", ".lock"];
  const names = letters.flatMap((one) => letters.flatMap((two) => letters.map((three) => one + two + three)));
  const passing = names.filter(isBranchName);
  expect(passing.length).toBeGreaterThan(100);
  const folder = mkdtempSync(join(tmpdir(), "slipway-names-"));
  dir = folder;
  await git(folder, "init", "-q");
  await git(folder, "-c", "user.name=T", "-c", "user.email=t@x", "commit", "-q", "--allow-empty", "-m", "x");
  for (let from = 0; from < passing.length; from += 200)
    // One call for many: the config of a branch is not touched, its name is only checked.
    await Promise.all(
      passing
        .slice(from, from + 200)
        .filter((_, i) => i % 10 === 0)
        .map((name) => git(folder, "check-ref-format", `refs/heads/${name}`)),
    );
});
