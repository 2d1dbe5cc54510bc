/**
 * The workspace as a git checkout.
 *
 * K1 A checkpoint uses a separate index: the agent's index, commits and files do not change.
 * K2 Checkpoint commits never become part of the work's history: an attempt that resumes from one
 *    gets its files as uncommitted changes on the parent commit.
 * K3 Pushes go to `workRef` and `checkpointRef` only, to the broker's address, regardless of the
 *    remotes that the agent configures.
 * K4 A merge that is not committed yet survives a checkpoint: its other parent is the checkpoint's
 *    second one.
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
import { isDiskFullMessage } from "../../src/core/lib/disk/disk-full.ts";
import { SETUP_FOLDER, type WorkerSpec } from "../../src/core/protocol/worker.ts";
import { sanitize, truncate } from "../lib/text.ts";
import { GitError } from "../../src/core/lib/git/git-error.ts";
import { replaceFile } from "../../src/core/lib/runtime/replace-file.ts";
import { formatGitIdentity } from "../../src/core/values/git-identity.ts";
import { git, gitPlumbing, type GitOptions } from "./git.ts";
import { fetchPack } from "../connection/pack.ts";
import { integrate } from "./integrate.ts";
import { Unreachable, type CommitReport, type SavedWork, type Workspace } from "./workspace.ts";

const BRANCH = "slipway/work";
const AUTHOR = { name: "Slipway", email: "agent@slipway.invalid" };
/** Limits of commit messages, characters: hosts and web pages fail on longer ones. */
const DEFAULT_TITLE = "Changes by the agent";
const TITLE_LIMIT = 500;
const MESSAGE_LIMIT = 16_384;
/** Marks checkpoint commits (K2). */
const CHECKPOINT_MESSAGE = "slipway: checkpoint, not part of the work";

const NOTE = "checkout";
/** The notes that `restore` gave to the agent, so that a restarted worker gives it the same. */
const TOLD = "checkout-notes.json";

/**
 * `fresh`: this process created an empty repository. `found`: files of an earlier worker process
 * exist and are unchanged, or the preparation failed.
 */
export type PreparedRepository = "fresh" | "found";

/**
 * Creates the repository before the task is known. Never rejects: after a failure `open` repeats
 * the work and reports the error.
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

const MERGE_HEAD = "MERGE_HEAD";

type Progress = (text: string) => void;

export interface CheckoutOptions {
  readonly root: string;
  /** A folder of ours for indexes and notes. */
  readonly stateDir: string;
  /** The pending or finished repository at `root`. If absent, `open` creates it. */
  readonly repository?: Promise<PreparedRepository>;
  /** Address of the task repository, and the Authorization header for it. */
  readonly url: string;
  readonly authorization: string;
}

export class Checkout implements Workspace {
  readonly root: string;
  readonly #options: CheckoutOptions;
  #spec: WorkerSpec | null = null;
  /** The files are those of the saved work, and nothing has run since. */
  #isAtStart = false;
  #lastTree = "";
  #lastSha = "";
  #lastPushed = "";

  constructor(options: CheckoutOptions) {
    this.root = options.root;
    this.#options = options;
  }

  async open(spec: WorkerSpec, signal: AbortSignal, progress: Progress = () => undefined): Promise<void> {
    this.#spec = spec;
    const note = join(this.#options.stateDir, NOTE);
    const attemptKey = `${spec.taskId} ${spec.attempt}`;
    const prepared = (await this.#options.repository) ?? "found";
    if (existsSync(note) && readFileSync(note, "utf8") === attemptKey && existsSync(join(this.root, ".git"))) return;
    if (prepared === "found") {
      mkdirSync(this.root, { recursive: true });
      rmSync(join(this.root, ".git"), { recursive: true, force: true });
      await initRepository(this.root, signal);
    }
    rmSync(join(this.#options.stateDir, TOLD), { force: true });
    await this.#fetch(spec, signal, progress);
    this.#isAtStart = spec.setup.length === 0;
    const first = this.#isAtStart ? startOf(spec) : spec.baseSha;
    await Promise.all([this.#nameBase(spec, signal), this.#checkOut(first, signal, progress)]);
    await this.#nameAuthor(spec, signal);
    writeFileSync(note, attemptKey);
  }

  async restore(spec: WorkerSpec, signal: AbortSignal): Promise<readonly string[]> {
    const told = join(this.#options.stateDir, TOLD);
    if (existsSync(told)) return JSON.parse(readFileSync(told, "utf8")) as string[];
    const sha = startOf(spec);
    if (sha !== spec.baseSha && !this.#isAtStart) {
      await this.#git(["checkout", "--quiet", "--force", "-B", BRANCH, sha], { signal });
      // Saved work holds everything that is not ignored, so what else the setup left was deleted.
      await this.#git(["clean", "--quiet", "-ffd", "-e", this.#spared()], { signal });
    }
    await this.#uncommit(sha, spec, signal);
    const { notes } = await integrate(this.root, spec, signal);
    replaceFile(told, JSON.stringify(notes));
    return notes;
  }

  async checkpoint(signal: AbortSignal): Promise<SavedWork> {
    const spec = this.#requireSpec();
    const names = await this.#plumbing(["rev-parse", "HEAD", "HEAD^{tree}"], { signal });
    const [head = "", headTree] = names.split("\n");
    const tree = await this.#writeTree(signal);
    const merged = this.#mergedCommit();
    const key = `${head} ${tree} ${merged ?? ""}`;
    if (key !== this.#lastTree) {
      const clean = merged === null && tree === headTree;
      const parents = ["-p", head, ...(merged === null ? [] : ["-p", merged])];
      this.#lastSha = clean
        ? head
        : await this.#plumbing(["commit-tree", tree, ...parents, "-m", CHECKPOINT_MESSAGE], { signal });
      this.#lastTree = key;
    }
    const sha = this.#lastSha;
    // The task repository has the base: before the first change there is nothing to push.
    if (sha !== this.#lastPushed && sha !== spec.baseSha) await this.#push(sha, spec.checkpointRef, signal);
    this.#lastPushed = sha;
    return { sha, ...(await this.#count(spec.baseSha, sha, signal)) };
  }

  async commit(message: string, signal: AbortSignal): Promise<string | null> {
    await this.#addAll({ signal });
    const [tree, current] = [
      await this.#plumbing(["write-tree"], { signal }),
      await this.#plumbing(["rev-parse", "HEAD^{tree}"], { signal }),
    ];
    if (tree === current && this.#mergedCommit() === null) return null;
    const text = truncate(sanitize(message), MESSAGE_LIMIT).trim() || DEFAULT_TITLE;
    await this.#git(["commit", "--quiet", "--no-verify", "--cleanup=whitespace", "-F", "-"], { signal, input: text });
    return await this.#plumbing(["rev-parse", "HEAD"], { signal });
  }

  async finalCommit({ title, summary }: CommitReport, signal: AbortSignal): Promise<string> {
    const spec = this.#requireSpec();
    const coAuthors = spec.commit?.coAuthors ?? [];
    const trailers = coAuthors.map((person) => `Co-authored-by: ${formatGitIdentity(person)}`).join("\n");
    const subject = truncate(sanitize(title), TITLE_LIMIT).trim().replaceAll("\n", " ");
    const body = truncate(sanitize(summary), MESSAGE_LIMIT - TITLE_LIMIT - trailers.length - 4).trim();
    // Without a title the body would become one.
    const parts = [subject || DEFAULT_TITLE, body, trailers].filter((part) => part !== "");
    const head =
      (await this.commit(parts.join("\n\n"), signal)) ?? (await this.#plumbing(["rev-parse", "HEAD"], { signal }));
    if (head === spec.baseSha) return head;
    await this.#push(head, spec.workRef, signal);
    return head;
  }

  #requireSpec(): WorkerSpec {
    if (this.#spec === null) throw new Error("the workspace is not open");
    return this.#spec;
  }

  async #git(args: readonly string[], options: Omit<GitOptions, "cwd"> = {}): Promise<string> {
    return await git(args, { cwd: this.root, ...options });
  }

  async #plumbing(args: readonly string[], options: Pick<GitOptions, "indexFile" | "signal">): Promise<string> {
    return await gitPlumbing(args, { cwd: this.root, ...options });
  }

  async #fetch(spec: WorkerSpec, signal: AbortSignal, progress: Progress): Promise<void> {
    this.#hideOwnFiles();
    const input = await fetchPack(
      this.#options,
      [
        ...new Set(
          [spec.baseSha, spec.resume?.sha, spec.carry?.base, spec.carry?.sha].filter((sha) => sha !== undefined),
        ),
      ],
      signal,
    );
    try {
      await this.#git(["index-pack", "--stdin", "-v"], { signal, input, progress });
    } catch (thrown) {
      throw unreachable("the task repository could not be fetched", thrown, signal);
    }
  }

  /** Creates the remote-tracking ref that a clone creates. */
  async #nameBase(spec: WorkerSpec, signal: AbortSignal): Promise<void> {
    await this.#git(["update-ref", `refs/remotes/origin/${spec.base}`, spec.baseSha], { signal });
  }

  /** Of the agent's own commits too; it may change that. */
  async #nameAuthor({ commit }: WorkerSpec, signal: AbortSignal): Promise<void> {
    if (commit === undefined) return;
    const { name, email } = commit.author;
    if (name === AUTHOR.name && email === AUTHOR.email) return;
    for (const [key, value] of Object.entries({ name, email }))
      await this.#git(["config", `user.${key}`, value], { signal });
  }

  async #checkOut(sha: string, signal: AbortSignal, progress: Progress): Promise<void> {
    const spared = [".git", SETUP_FOLDER, this.#stateDirInRoot()?.split("/")[0]];
    const empty = readdirSync(this.root).every((name) => spared.includes(name));
    await this.#git(["checkout", "--quiet", "--progress", "--force", "-B", BRANCH, sha], { signal, progress });
    const kept = ["-e", this.#spared(), "-e", `/${SETUP_FOLDER}`];
    if (!empty) await this.#git(["clean", "--quiet", "-ffdx", ...kept], { signal });
  }

  /** What `git clean` must leave. */
  #spared(): string {
    return `/${this.#stateDirInRoot() ?? ".git"}`;
  }

  /** Makes the changes of a checkpoint uncommitted again (K2, K4). Idempotent. */
  async #uncommit(sha: string, spec: WorkerSpec, signal: AbortSignal): Promise<void> {
    if (sha === spec.baseSha) return;
    const message = await this.#plumbing(["log", "-1", "--no-show-signature", "--format=%s", sha], { signal });
    if (message !== CHECKPOINT_MESSAGE) return;
    const [, , merged] = (await this.#plumbing(["rev-list", "--parents", "-1", sha], { signal })).split(" ");
    await this.#git(["reset", "--quiet", "--mixed", `${sha}^`], { signal });
    if (merged !== undefined) writeFileSync(join(this.root, ".git", MERGE_HEAD), `${merged}\n`);
    this.#lastPushed = "";
  }

  /** The commit of a merge that is not committed yet; null = none. */
  #mergedCommit(): string | null {
    const file = join(this.root, ".git", MERGE_HEAD);
    const [line = "", more] = existsSync(file) ? readFileSync(file, "utf8").trim().split("\n") : [];
    // The agent may write anything there; a merge of several commits is left to git.
    return more === undefined && /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(line) ? line : null;
  }

  #hideOwnFiles(): void {
    const inside = this.#stateDirInRoot();
    if (inside === null) return;
    mkdirSync(join(this.root, ".git", "info"), { recursive: true });
    writeFileSync(join(this.root, ".git", "info", "exclude"), `/${inside}/\n`);
  }

  /** Path of the state folder below the root; null when it is outside. */
  #stateDirInRoot(): string | null {
    const path = relative(this.root, this.#options.stateDir);
    return path === "" || path.startsWith("..") ? null : path;
  }

  /** The tree of everything that is not ignored, through a separate index (K1). */
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
   * rest is added. A full disk rejects.
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
    if (sha === base) return { files: 0, additions: 0, deletions: 0 };
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

const startOf = ({ resume, baseSha }: WorkerSpec): string => resume?.sha ?? baseSha;

function unreachable(what: string, thrown: unknown, signal: AbortSignal): unknown {
  if (signal.aborted || !(thrown instanceof GitError)) return thrown;
  return new Unreachable(what, thrown, thrown.output);
}
