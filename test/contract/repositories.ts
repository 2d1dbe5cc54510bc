/** The contract of every `Repositories` adapter. Each adapter provides its own upstream. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { TaskFailure } from "../../src/core/failure.ts";
import { checkpointRef, WORK_REF, type GitAuth, type Repositories } from "../../src/core/ports/repositories.ts";

export interface RepoBench {
  readonly repos: Repositories;
  readonly repo: string;
  readonly auth: GitAuth | null;
  /** Creates a commit on the ref of the task repository, as a worker does. */
  commit(taskId: string, ref: string, content: string): Promise<string>;
  /** SHA of the upstream branch, or null. */
  tip(branch: string): Promise<string | null>;
  /**
   * Replaces the upstream branch by another commit, as another client would. @returns the commit.
   */
  replace(branch: string): Promise<string>;
  /** Deletes the upstream branch, as another client would. */
  drop(branch: string): Promise<void>;
  close(): Promise<void>;
}

export const errorCode = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "no failure",
    (error: unknown) => (error instanceof TaskFailure ? error.code : String(error)),
  );

export function reposContract(name: string, open: () => Promise<RepoBench>): void {
  describe(`${name}: the contract of task repositories`, () => {
    let bench: RepoBench;
    beforeEach(async () => {
      bench = await open();
    });
    afterEach(() => bench.close());
    const signal = new AbortController().signal;
    const ID = "task_a1";
    const prepare = (taskId = ID, parentTaskId: string | null = null) =>
      bench.repos.prepare(
        { taskId, userId: "user_a", repo: bench.repo, auth: bench.auth, base: null, parentTaskId },
        signal,
      );
    const push = (taskId: string, sha: string, expect: string | null, branch = "slipway/x") =>
      bench.repos.push({ taskId, userId: "user_a", repo: bench.repo, auth: bench.auth, sha, branch, expect }, signal);

    it("prepare finds the default branch and is idempotent", async () => {
      const first = await prepare();
      expect(first.base).toBe("main");
      expect(first.baseSha).toMatch(/^[0-9a-f]{40}$/);
      expect(await prepare()).toEqual(first);
      expect(await bench.repos.list()).toEqual([ID]);
    });

    it("[V7] a repository can be asked about without a task, and nothing is kept", async () => {
      const asked = { repo: bench.repo, auth: bench.auth, base: null, branch: "slipway/check" };
      expect(await bench.repos.probe(asked, signal)).toEqual({
        defaultBranch: "main",
        branches: ["main"],
        isTruncated: false,
        hasBase: true,
        push: { kind: "allowed" },
      });
      await bench.replace("slipway/x");
      const again = await bench.repos.probe({ ...asked, base: "nowhere" }, signal);
      expect([again.branches, again.hasBase]).toEqual([["main", "slipway/x"], false]);
      expect((await bench.repos.probe({ ...asked, base: "slipway/x" }, signal)).hasBase).toBe(true);
      expect(await bench.tip("slipway/check")).toBeNull();
      expect(await bench.repos.list()).toEqual([]);
      expect(await bench.repos.hasMirror("user_a", bench.repo)).toBe(false);
    });

    it("a mirror exists only for the user who fetched it", async () => {
      expect(await bench.repos.hasMirror("user_a", bench.repo)).toBe(false);
      await prepare();
      expect(await bench.repos.hasMirror("user_a", bench.repo)).toBe(true);
      expect(await bench.repos.hasMirror("user_b", bench.repo)).toBe(false);
      expect(await bench.repos.hasMirror("user_a", `${bench.repo}2`)).toBe(false);
    });

    it("[S14] [R9] a mirror is its person's, a task repository its task's; a person's are removed when none is in use", async () => {
      await prepare();
      await bench.repos.prepare(
        { taskId: "task_b", userId: "user_b", repo: bench.repo, auth: bench.auth, base: null, parentTaskId: null },
        signal,
      );
      const usage = await bench.repos.usage();
      expect(usage.map(({ kind, owner, repo }) => `${kind} ${owner} ${repo}`).toSorted()).toEqual([
        `mirror user_a ${bench.repo}`,
        `mirror user_b ${bench.repo}`,
        `task ${ID} null`,
        "task task_b null",
      ]);
      expect(usage.filter(({ bytes }) => bytes < 1_024)).toEqual([]);
      await bench.repos.remove(ID);
      expect([await bench.repos.removePerson("user_a"), await bench.repos.removePerson("user_a")]).toEqual([
        true,
        true,
      ]);
      expect(await bench.repos.hasMirror("user_a", bench.repo)).toBe(false);
      expect(await bench.repos.hasMirror("user_b", bench.repo)).toBe(true);
    });

    it("six concurrent prepares of one repository succeed", async () => {
      const made = await Promise.all(
        ["task_1", "task_2", "task_3", "task_4", "task_5", "task_6"].map((id) => prepare(id)),
      );
      expect(new Set(made.map(({ baseSha }) => baseSha)).size).toBe(1);
    });

    it("a commit that a worker pushed can be resolved and survives another prepare", async () => {
      await prepare();
      expect(await bench.repos.resolve(ID, WORK_REF)).toBeNull();
      const sha = await bench.commit(ID, WORK_REF, "one");
      expect(await bench.repos.resolve(ID, WORK_REF)).toBe(sha);
      await prepare();
      expect(await bench.repos.has(ID, sha)).toBe(true);
      expect(await bench.repos.has(ID, "f".repeat(40))).toBe(false);
      expect(await bench.repos.has("task_unknown", sha)).toBe(false);
    });

    it("[W5] a push by SHA is idempotent and enforces the lease", async () => {
      await prepare();
      const sha = await bench.commit(ID, WORK_REF, "one");
      await push(ID, sha, null);
      await push(ID, sha, null);
      expect(await bench.tip("slipway/x")).toBe(sha);
      const other = await bench.commit(ID, WORK_REF, "two");
      await push(ID, other, sha);
      expect(await bench.tip("slipway/x")).toBe(other);
    });

    it("[W5] a push never replaces work of others, also when it is tried again", async () => {
      await prepare();
      const sha = await bench.commit(ID, WORK_REF, "one");
      await push(ID, sha, null);
      const foreign = await bench.replace("slipway/x");
      const other = await bench.commit(ID, WORK_REF, "two");
      for (const expected of [null, sha, "e".repeat(40), null])
        expect(await errorCode(push(ID, other, expected))).toBe("push_rejected");
      expect(await bench.tip("slipway/x")).toBe(foreign);
    });

    it("[W5] a push replaces what its own lineage has pushed, also when nobody was told of that push", async () => {
      await prepare();
      const sha = await bench.commit(ID, WORK_REF, "one");
      await push(ID, sha, null);
      await prepare("task_b2", ID);
      const other = await bench.commit("task_b2", WORK_REF, "two");
      await push("task_b2", other, null);
      expect(await bench.tip("slipway/x")).toBe(other);
      // A sibling that continues the first task knows nothing of the second.
      await prepare("task_c3", ID);
      const third = await bench.commit("task_c3", WORK_REF, "three");
      expect(await errorCode(push("task_c3", third, sha))).toBe("push_rejected");
      expect(await bench.tip("slipway/x")).toBe(other);
    });

    it("[W5] a branch that was deleted after the delivery is not made again by the same commit, but by new work", async () => {
      await prepare();
      const sha = await bench.commit(ID, WORK_REF, "one");
      await push(ID, sha, null);
      await bench.drop("slipway/x");
      await push(ID, sha, null);
      expect(await bench.tip("slipway/x")).toBeNull();
      const other = await bench.commit(ID, WORK_REF, "two");
      await push(ID, other, sha);
      expect(await bench.tip("slipway/x")).toBe(other);
    });

    it("[W4] a child inherits the saved work of its parent", async () => {
      await prepare();
      const work = await bench.commit(ID, WORK_REF, "done");
      const half = await bench.commit(ID, checkpointRef(2), "half");
      await prepare("task_b2", ID);
      expect(await bench.repos.has("task_b2", work)).toBe(true);
      expect(await bench.repos.has("task_b2", half)).toBe(true);
      // The child's own work ref does not exist yet.
      expect(await bench.repos.resolve("task_b2", WORK_REF)).toBeNull();
      await prepare("task_c3", "task_b2");
      expect(await bench.repos.has("task_c3", work)).toBe(true);
      await push("task_b2", work, null);
      expect(await bench.tip("slipway/x")).toBe(work);
    });

    it("an existing repository keeps its base", async () => {
      const first = await prepare();
      const again = {
        taskId: ID,
        userId: "user_a",
        repo: bench.repo,
        auth: bench.auth,
        base: "main",
        parentTaskId: null,
      };
      expect(await bench.repos.prepare(again, signal)).toEqual(first);
    });

    it("a prepare that is cancelled before it starts creates nothing", async () => {
      const task = { taskId: ID, userId: "user_a", repo: bench.repo, auth: bench.auth };
      await expect(
        bench.repos.prepare({ ...task, base: null, parentTaskId: null }, AbortSignal.abort()),
      ).rejects.toThrow("aborted");
      expect(await bench.repos.list()).toEqual([]);
    });

    it("remove is idempotent and touches one task only", async () => {
      await prepare();
      await prepare("task_b2");
      await bench.repos.remove(ID);
      await bench.repos.remove(ID);
      expect(await bench.repos.list()).toEqual(["task_b2"]);
      expect((await prepare("task_b2")).base).toBe("main");
    });
  });
}
