/**
 * Signs the commits of a task with the SSH key of the installation, as git does with
 * `gpg.format=ssh`. The key is read by ssh-keygen alone, on the coordinator.
 *
 * Z1 A commit that the upstream has, or that was pushed before, stays as it is.
 * Z2 The same commits are signed alike each time: the signatures of the keys that are accepted
 *    depend on nothing else. So a repeated push sends the same commits, as does a task that
 *    continues from the unsigned ones.
 */
import { Readable } from "node:stream";
import { SlipwayError } from "../../core/error.ts";
import { TaskFailure } from "../../core/failure.ts";
import { GitError } from "../../core/lib/git/git-error.ts";
import { runProcessGroup, runTool, ToolExitError } from "../../core/lib/runtime/process-group.ts";
import type { Git } from "../git-process.ts";

/** @returns the armoured signature. */
type SignCommit = (content: Buffer, signal: AbortSignal) => Promise<string>;

const KEY_MS = 10_000;
const OUTPUT_BYTES = 64 * 1_024;
/** Of a longer history the newest; each takes three processes. */
const COMMITS = 200;
/** Signatures of other keys are randomized, or need a person to touch a device. */
const KINDS = /^(?:ssh-ed25519|ssh-rsa) /;

const environment = (): NodeJS.ProcessEnv => ({ PATH: process.env["PATH"], LC_ALL: "C", SSH_ASKPASS_REQUIRE: "never" });

/** Without a key, the commits stay as they are. `checkSigningKey` has accepted the key. */
export function openSigning(git: Git, file?: string): (call: SignCall, signal: AbortSignal) => Promise<string> {
  if (file === undefined) return ({ head }) => Promise.resolve(head);
  const sign = openSigner(file);
  return (call, signal) => signCommits(git, sign, call, signal);
}

function openSigner(file: string): SignCommit {
  return async (content, signal) => {
    const args = ["-q", "-Y", "sign", "-n", "git", "-f", file];
    const { stdout, stderr, stopped, exitCode } = await runProcessGroup("ssh-keygen", args, {
      env: environment(),
      input: Readable.from([content]),
      signal,
      maxStdoutBytes: OUTPUT_BYTES,
      maxStderrChars: 1_000,
      timeout: { kind: "total", ms: KEY_MS },
      graceMs: 0,
    });
    signal.throwIfAborted();
    if (stopped === null && exitCode === 0) return stdout.toString("latin1").trimEnd();
    throw new TaskFailure("internal", { detail: `The commits could not be signed: ${stderr.trim() || "no answer"}` });
  };
}

/** @throws SlipwayError `config_invalid` for a file that is no key that can be used. */
export async function checkSigningKey(file: string): Promise<void> {
  const said = { env: environment(), timeoutMs: KEY_MS };
  const key = await runTool("ssh-keygen", ["-y", "-P", "", "-f", file], said).catch((error: unknown) => {
    const why = error instanceof ToolExitError ? error.message : "ssh-keygen is missing; install openssh-client";
    throw invalidKey(
      file,
      `cannot be used: ${why}. It must be a key without a passphrase that only this user can read.`,
    );
  });
  if (!KINDS.test(key))
    throw invalidKey(file, "is no key of the kinds ed25519 or rsa. Make one with ssh-keygen -t ed25519.");
}

const invalidKey = (file: string, what: string): SlipwayError =>
  new SlipwayError("config_invalid", `SLIPWAY_SIGNING_KEY_FILE: the key ${file} ${what}`);

interface SignCall {
  readonly cwd: string;
  readonly base: string;
  readonly head: string;
  /** The commit of the lineage that was pushed last; null = none. */
  readonly expect: string | null;
}

/** @returns the commit with the same content and history, signed. */
async function signCommits(git: Git, sign: SignCommit, call: SignCall, signal: AbortSignal): Promise<string> {
  const { cwd, head } = call;
  const run = async (args: readonly string[], input?: Buffer): Promise<Buffer> =>
    (await git({ cwd, signal, args, ...(input === undefined ? {} : { input: Readable.from([input]) }) })).bytes;
  const list = (await run(["rev-list", "--topo-order", "--reverse", head, ...(await findKnown(run, call))])).toString();
  const renamed = new Map<string, string>();
  for (const sha of list
    .split("\n")
    .filter((line) => line !== "")
    .slice(-COMMITS)) {
    const content = withoutSignature(await run(["cat-file", "commit", sha]), renamed);
    const signature = await sign(content, signal);
    const signed = await run(["hash-object", "-t", "commit", "-w", "--stdin"], insert(content, signature));
    renamed.set(sha, signed.toString().trim());
  }
  const signed = renamed.get(head) ?? head;
  if (signed !== head) await run(["update-ref", `refs/slipway/signed/${signed}`, signed]);
  return signed;
}

/** Z1, as arguments of rev-list. */
async function findKnown(
  run: (args: readonly string[]) => Promise<Buffer>,
  { base, expect }: SignCall,
): Promise<string[]> {
  const known: string[] = [];
  for (const name of [base, "refs/slipway/upstream", ...(expect === null ? [] : [expect])])
    try {
      known.push(`^${(await run(["rev-parse", "--quiet", "--verify", `${name}^{commit}`])).toString().trim()}`);
    } catch (error) {
      if (!(error instanceof GitError) || error.exitCode !== 1) throw error;
    }
  return known;
}

/** Bytes as characters: a message may have any encoding. */
function split(content: Buffer): { readonly header: string; readonly body: string } {
  const text = content.toString("latin1");
  const end = text.indexOf("\n\n");
  return end === -1 ? { header: text, body: "\n" } : { header: text.slice(0, end), body: text.slice(end + 1) };
}

function withoutSignature(content: Buffer, renamed: ReadonlyMap<string, string>): Buffer {
  const { header, body } = split(content);
  const kept = header.replaceAll(/^gpgsig(?:-sha256)? .*(?:\n .*)*\n?/gm, "").trimEnd();
  const moved = kept.replaceAll(/^parent (\w+)$/gm, (line, sha: string) => `parent ${renamed.get(sha) ?? sha}`);
  return Buffer.from(`${moved}\n${body}`, "latin1");
}

function insert(content: Buffer, signature: string): Buffer {
  const { header, body } = split(content);
  return Buffer.from(`${header}\ngpgsig ${signature.replaceAll("\n", "\n ")}\n${body}`, "latin1");
}
