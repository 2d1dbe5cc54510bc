/**
 * The workspace as a git checkout.
 *
 * K1 A checkpoint is made through an index of its own: what the agent has staged, committed or left
 *    lying is not touched.
 * K2 Checkpoint commits never become part of the work's history: who goes on from one gets its
 *    files back as uncommitted changes on its parent.
 * K3 Pushes go to `workRef` and `checkpointRef` only, to the broker's address, whatever remotes the
 *    agent has set up.
 */
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join, relative } from "node:path";
import { isDiskFullMessage } from "../../src/core/lib/disk-full.ts";
import type { WorkerSpec } from "../../src/core/protocol/worker.ts";
import { sanitize, truncate } from "../lib/text.ts";
import { GitError } from "../../src/core/lib/git-error.ts";
import { git, gitPlumbing, type GitOptions } from "./git.ts";
import { fetchPack } from "../connection/pack.ts";
import { Unreachable, type SavedWork, type Workspace } from "./workspace.ts";

const BRANCH = "slipway/work";
const AUTHOR = { name: "Slipway", email: "agent@slipway.invalid" };
/** Of commit messages, characters: hosts and pages choke on more. */
const TITLE_LIMIT = 500;
const MESSAGE_LIMIT = 16_384;
/** Marks checkpoint commits (K2). */
const CHECKPOINT_MESSAGE = "slipway: checkpoint, not part of the work";

const NOTE = "checkout";

/**
 * `fresh`: an empty repository was made there just now. `found`: another life of a worker was here;
 * what it left is as it was.
 */
export type PreparedRepository = "fresh" | "found";

/**
 * What can be done for a checkout before it is known what of. Never rejects: whoever needs a
 * repository that could not be made makes one himself, and learns why not.
 */
export async function prepareRepository(root: string, stateDir: string): Promise<PreparedRepository> {
  try {
    if (existsSync(join(stateDir, NOTE)) || existsSync(join(root, ".git"))) return "found";
    mkdirSync(root, { recursive: true });
    await initRepository(root);
    return "fresh";
  } catch {
    return "found";
  }
}

async function initRepository(root: string, signal?: AbortSignal): Promise<void> {
  await git(["init", "--quiet", "--initial-branch", BRANCH], {
    cwd: root,
    ...(signal === undefined ? {} : { signal }),
  });
  appendFileSync(join(root, ".git", "config"), `[user]\n\tname = ${AUTHOR.name}\n\temail = ${AUTHOR.email}\n`);
}

export interface CheckoutOptions {
  readonly root: string;
  /** A folder of ours for indexes and notes. */
  readonly stateDir: string;
  /** The repository at `root`, which may still be in the making. Absent: `open` makes it. */
  readonly repository?: Promise<PreparedRepository>;
  /** Where the task repository is served, and the header that opens it. */
  readonly url: string;
  readonly authorization: string;
}

export class Checkout implements Workspace {
  readonly root: string;
  readonly #options: CheckoutOptions;
  #spec: WorkerSpec | null = null;
  #lastTree = "";
  #lastSha = "";
  #lastPushed = "";

  constructor(options: CheckoutOptions) {
    this.root = options.root;
    this.#options = options;
  }

  async open(spec: WorkerSpec, signal: AbortSignal): Promise<void> {
    this.#spec = spec;
    const note = join(this.#options.stateDir, NOTE);
    const mine = `${spec.taskId} ${spec.attempt}`;
    const prepared = (await this.#options.repository) ?? "found";
    if (existsSync(note) && readFileSync(note, "utf8") === mine && existsSync(join(this.root, ".git"))) return;
    if (prepared === "found") {
      mkdirSync(this.root, { recursive: true });
      rmSync(join(this.root, ".git"), { recursive: true, force: true });
      await initRepository(this.root, signal);
    }
    await this.#fetch(spec, signal);
    await Promise.all([this.#nameBase(spec, signal), this.#restore(spec, signal)]);
    writeFileSync(note, mine);
  }

  async checkpoint(signal: AbortSignal): Promise<SavedWork> {
    const spec = this.#opened();
    const [head, tree] = [await this.#plumbing(["rev-parse", "HEAD"], { signal }), await this.#writeTree(signal)];
    const key = `${head} ${tree}`;
    if (key !== this.#lastTree) {
      const clean = tree === (await this.#plumbing(["rev-parse", "HEAD^{tree}"], { signal }));
      this.#lastSha = clean
        ? head
        : await this.#plumbing(["commit-tree", tree, "-p", head, "-m", CHECKPOINT_MESSAGE], { signal });
      this.#lastTree = key;
    }
    const sha = this.#lastSha;
    if (sha !== this.#lastPushed) await this.#push(sha, spec.checkpointRef, signal);
    this.#lastPushed = sha;
    return { sha, ...(await this.#count(spec.baseSha, sha, signal)) };
  }

  async commit(message: string, signal: AbortSignal): Promise<string | null> {
    await this.#addAll({ signal });
    const [tree, current] = [
      await this.#plumbing(["write-tree"], { signal }),
      await this.#plumbing(["rev-parse", "HEAD^{tree}"], { signal }),
    ];
    if (tree === current) return null;
    const text = truncate(sanitize(message), MESSAGE_LIMIT).trim() || "Changes by the agent";
    await this.#git(["commit", "--quiet", "--no-verify", "--cleanup=whitespace", "-F", "-"], { signal, input: text });
    return await this.#plumbing(["rev-parse", "HEAD"], { signal });
  }

  async finalCommit(title: string, signal: AbortSignal): Promise<string> {
    const spec = this.#opened();
    await this.commit(truncate(sanitize(title), TITLE_LIMIT), signal);
    const head = await this.#plumbing(["rev-parse", "HEAD"], { signal });
    if (head === spec.baseSha) return head;
    await this.#push(head, spec.workRef, signal);
    return head;
  }

  #opened(): WorkerSpec {
    if (this.#spec === null) throw new Error("the workspace is not open");
    return this.#spec;
  }

  async #git(args: readonly string[], options: Omit<GitOptions, "cwd"> = {}): Promise<string> {
    return await git(args, { cwd: this.root, ...options });
  }

  async #plumbing(args: readonly string[], options: Pick<GitOptions, "indexFile" | "signal">): Promise<string> {
    return await gitPlumbing(args, { cwd: this.root, ...options });
  }

  async #fetch(spec: WorkerSpec, signal: AbortSignal): Promise<void> {
    this.#hideOwnFiles();
    const input = await fetchPack(
      this.#options,
      [spec.baseSha, ...(spec.resume === null ? [] : [spec.resume.sha])],
      signal,
    );
    try {
      await this.#git(["index-pack", "--stdin"], { signal, input });
    } catch (thrown) {
      throw unreachable("the task repository could not be fetched", thrown, signal);
    }
  }

  /** As a clone would. */
  async #nameBase(spec: WorkerSpec, signal: AbortSignal): Promise<void> {
    await this.#plumbing(["update-ref", `refs/remotes/origin/${spec.base}`, spec.baseSha], { signal });
  }

  async #restore(spec: WorkerSpec, signal: AbortSignal): Promise<void> {
    const sha = spec.resume?.sha ?? spec.baseSha;
    const spared = [".git", this.#inside()?.split("/")[0]];
    const empty = readdirSync(this.root).every((name) => spared.includes(name));
    await this.#git(["checkout", "--quiet", "--force", "-B", BRANCH, sha], { signal });
    if (!empty) await this.#git(["clean", "--quiet", "-ffdx", "-e", `/${this.#inside() ?? ".git"}`], { signal });
    if (sha === spec.baseSha) return;
    const message = await this.#plumbing(["log", "-1", "--no-show-signature", "--format=%s", sha], { signal });
    if (message !== CHECKPOINT_MESSAGE) return;
    await this.#git(["reset", "--quiet", "--mixed", `${sha}^`], { signal });
    this.#lastPushed = "";
  }

  #hideOwnFiles(): void {
    const inside = this.#inside();
    if (inside === null) return;
    mkdirSync(join(this.root, ".git", "info"), { recursive: true });
    writeFileSync(join(this.root, ".git", "info", "exclude"), `/${inside}/\n`);
  }

  /** Our own folder's path below the root, when it lies there. */
  #inside(): string | null {
    const path = relative(this.root, this.#options.stateDir);
    return path === "" || path.startsWith("..") ? null : path;
  }

  /** The tree of everything that is not ignored, by way of an index of our own (K1). */
  async #writeTree(signal: AbortSignal): Promise<string> {
    const indexFile = join(this.#options.stateDir, "checkpoint-index");
    const own = join(this.root, ".git", "index");
    rmSync(indexFile, { force: true });
    rmSync(`${indexFile}.lock`, { force: true });
    if (existsSync(own)) copyFileSync(own, indexFile);
    try {
      await this.#addAll({ signal, indexFile });
    } catch (thrown) {
      if (signal.aborted) throw thrown;
      rmSync(indexFile, { force: true });
      await this.#plumbing(["read-tree", "HEAD"], { signal, indexFile });
      await this.#addAll({ signal, indexFile });
    }
    return await this.#plumbing(["write-tree"], { signal, indexFile });
  }

  /**
   * Files that git cannot add (unreadable, a nested repository without a commit) are left out; the
   * rest is added. On a full disk nothing is.
   */
  async #addAll(options: Omit<GitOptions, "cwd">): Promise<void> {
    try {
      await this.#git(["add", "--all"], options);
    } catch (thrown) {
      if (!(thrown instanceof GitError) || options.signal?.aborted) throw thrown;
      const spared = /'([^'\n]+)\/' does not have a commit checked out/.exec(thrown.output)?.[1];
      const paths = spared === undefined ? [] : ["--", ".", `:(exclude,literal)${spared}`];
      await this.#git(["add", "--all", "--ignore-errors", ...paths], options).catch((again: unknown) => {
        if (
          !(again instanceof GitError) ||
          isDiskFullMessage(again.output) ||
          !/adding files failed|unable to index|Permission denied/.test(again.output)
        )
          throw again;
      });
    }
  }

  async #push(sha: string, ref: string, signal: AbortSignal): Promise<void> {
    const args = ["push", "--quiet", "--force", "--no-verify", this.#options.url, `${sha}:${ref}`];
    try {
      await this.#git(args, { signal, authorization: this.#options.authorization });
    } catch (thrown) {
      throw unreachable(`the push to ${ref} failed`, thrown, signal);
    }
  }

  async #count(base: string, sha: string, signal: AbortSignal): Promise<Omit<SavedWork, "sha">> {
    const lines = (
      await this.#plumbing(["diff", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv", base, sha], {
        signal,
      })
    ).split("\n");
    const rows = lines.filter((line) => line !== "").map((line) => line.split("\t"));
    const sum = (column: number): number => rows.reduce((total, row) => total + (Number(row[column]) || 0), 0);
    return { files: rows.length, additions: sum(0), deletions: sum(1) };
  }
}

function unreachable(what: string, thrown: unknown, signal: AbortSignal): unknown {
  if (signal.aborted || !(thrown instanceof GitError)) return thrown;
  return new Unreachable(what, thrown, thrown.output);
}
