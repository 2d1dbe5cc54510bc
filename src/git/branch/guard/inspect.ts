/**
 * Looks at what a push would bring to the upstream: every new file of every new commit, not only of
 * the last one, because a push brings them all. The worker cannot skip it: it runs on the
 * coordinator, over the objects of the task repository, and runs no filter and no program.
 */
import { GitError } from "../../../core/lib/git/git-error.ts";
import type { Finding, Found, GuardRules, KnownSecret } from "../../../core/values/push-guard.ts";
import { secretForms } from "../../../core/lib/json/redaction.ts";
import { lineAt } from "./entropy.ts";
import type { Git } from "../../git-process.ts";
import { generatedFolder, inspectLink, inspectPaths, isLockFile, isNewLink, type ChangedEntry } from "./paths.ts";
import type { SecretSearch } from "./secret-search.ts";

export interface InspectCall {
  readonly cwd: string;
  readonly base: string;
  readonly head: string;
  readonly rules: GuardRules;
  readonly secrets: readonly KnownSecret[];
}

interface Blob {
  readonly object: string;
  readonly path: string;
  readonly size: number;
}

/** Bytes of the names and ids of a change; a larger change is not inspected. */
const LIST_BYTES = 32 * 2 ** 20;
/** Files are read and searched in batches of this size, bytes; links have no more. */
const BATCH_BYTES = 2 ** 20;
const BATCH_FILES = 200;
const LINK_BYTES = 4_096;
/** Larger files are not searched for the values of variables. */
const SEARCHED_BYTES = 64 * 2 ** 20;
/** A file with a NUL within these bytes is not text. */
const SNIFFED = 8_000;
/** Findings of one kind that are kept. */
const KEPT = 200;
/** What the upstream has already: the base, the fetched branch, and what was delivered. */
const KNOWN = ["refs/slipway/base", "refs/slipway/upstream", "refs/slipway/delivered/*"].map((ref) => `--glob=${ref}`);
/** The branches of the mirror that the task repository borrows from. */
const MIRRORED = ["-c", "core.alternateRefsPrefixes=refs/heads/"];

export async function inspectChange(
  git: Git,
  search: SecretSearch,
  call: InspectCall,
  signal: AbortSignal,
): Promise<Finding[]> {
  const { rules, secrets } = call;
  if (rules.asks.length + secrets.length === 0) return [];
  const inspection = new Inspection(git, search, call, signal);
  const variables = secrets.length === 0 ? [] : await inspection.variables(secrets);
  const found = rules.asks.length === 0 ? [] : [...(await inspection.names()), ...(await inspection.contents())];
  const findings = [...variables, ...found].map((one): Finding => {
    const holds = one.kind === "variable" || rules.asks.includes(one.kind);
    return { ...one, holds };
  });
  // What a person decides about comes first.
  return findings.toSorted((a, b) => Number(b.holds) - Number(a.holds));
}

class Inspection {
  readonly #git: Git;
  readonly #search: SecretSearch;
  readonly #call: InspectCall;
  readonly #signal: AbortSignal;
  #blobs: Promise<Blob[] | null> | null = null;

  constructor(git: Git, search: SecretSearch, call: InspectCall, signal: AbortSignal) {
    this.#git = git;
    this.#search = search;
    this.#call = call;
    this.#signal = signal;
  }

  /** Findings about names and links of the change as a whole. */
  async names(): Promise<Found[]> {
    const { base, head } = this.#call;
    const plain = ["diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev"];
    const { text, truncated } = await this.#run([...plain, base, head], LIST_BYTES);
    if (truncated) return [TOO_MANY];
    const entries = readRaw(text);
    const found = inspectPaths(entries, await this.#trackedFolders(entries));
    for (const { object, path } of entries.filter(isNewLink).slice(0, KEPT)) {
      const target = await this.#run(["cat-file", "blob", object], LINK_BYTES);
      const finding = inspectLink(path, target.text);
      if (finding !== null) found.push(finding);
    }
    return cap(found);
  }

  /** Findings about sizes and secrets of the new files. */
  async contents(): Promise<Found[]> {
    const blobs = await this.#newBlobs();
    if (blobs === null) return [TOO_MANY];
    const { fileBytes, totalBytes } = this.#call.rules;
    const large = blobs.filter(({ size }) => size > fileBytes);
    const total = blobs.reduce((sum, { size }) => sum + size, 0);
    const found = large.map(({ path, size }): Found => ({ kind: "large_file", path, detail: `${inMb(size)} MB` }));
    if (total > totalBytes)
      found.push({ kind: "large_change", path: "", detail: `${inMb(total)} MB of new files in all` });
    const searched = blobs.filter(({ size }) => size <= fileBytes);
    return [...cap(found), ...cap(await this.#secrets(searched))];
  }

  /** Findings about values of variables, in files of any kind, their names, and messages. */
  async variables(secrets: readonly KnownSecret[]): Promise<Found[]> {
    const known = secrets.map(({ name, value }) => ({ name, forms: secretForms(value) }));
    const found: Found[] = [];
    const add = (path: string, where: string, text: string, before = ""): void => {
      for (const { name, forms } of known) {
        const form = forms.find((one) => text.includes(one) && !before.includes(one));
        if (form === undefined) continue;
        const line = where === "" ? `line ${lineAt(text, text.indexOf(form))}` : where;
        found.push({ kind: "variable", path, detail: `${line}, the value of the variable ${name}` });
      }
    };
    const format = "--format=%an%n%ae%n%cn%n%ce%n%B";
    const messages = await this.#run([...MIRRORED, "log", format, this.#call.head, ...this.#known()], LIST_BYTES);
    add("", "a commit's message", messages.text);
    for (const batch of toBatches(((await this.#newBlobs()) ?? []).filter(({ size }) => size <= SEARCHED_BYTES))) {
      this.#signal.throwIfAborted();
      for (const { path, bytes } of await this.#read(batch)) {
        const text = bytes.toString("latin1");
        const isSeen = known.some(({ forms }) => forms.some((form) => text.includes(toLatin1(form))));
        if (isSeen) add(path, "", bytes.toString("utf8"), await this.#inBase(path));
      }
      for (const { path } of batch) add("", "a file's name", path);
    }
    return cap(found);
  }

  async #secrets(blobs: readonly Blob[]): Promise<Found[]> {
    const found: Found[] = [];
    let left = this.#call.rules.totalBytes;
    for (const batch of toBatches(blobs)) {
      this.#signal.throwIfAborted();
      // What is beyond the size of a whole change is a finding already.
      if (left <= 0) break;
      left -= batch.reduce((sum, { size }) => sum + size, 0);
      const texts = (await this.#read(batch)).flatMap(({ path, bytes }) =>
        bytes.subarray(0, SNIFFED).includes(0)
          ? []
          : [{ path, bytes: new Uint8Array(bytes), random: !isLockFile(path) }],
      );
      if (texts.length === 0) continue;
      const hits = await this.#search.search(texts);
      if (hits === null) {
        found.push({ kind: "secret", path: "", detail: "not all files could be searched for secrets in time" });
        break;
      }
      for (const [i, own] of hits.entries()) {
        const path = texts[i]?.path ?? "";
        const before = own.length === 0 ? "" : await this.#inBase(path);
        for (const { what, line, value } of own)
          if (!before.includes(value)) found.push({ kind: "secret", path, detail: `line ${line}, ${what}` });
      }
    }
    return found;
  }

  /** The file at the base. A finding that the base contains already is not new. */
  async #inBase(path: string): Promise<string> {
    try {
      return (await this.#run(["cat-file", "blob", `${this.#call.base}:${path}`], BATCH_BYTES)).text;
    } catch (error) {
      if (error instanceof GitError) return "";
      throw error;
    }
  }

  /** The generated folders of the change that the base has. */
  async #trackedFolders(entries: readonly ChangedEntry[]): Promise<Set<string>> {
    const folders = new Set(entries.flatMap(({ path }) => generatedFolder(path) ?? []));
    const tracked = new Set<string>();
    for (const folder of [...folders].slice(0, KEPT)) {
      const args = ["--literal-pathspecs", "ls-tree", "--name-only", this.#call.base, "--", folder];
      if ((await this.#run(args)).text !== "") tracked.add(folder);
    }
    return tracked;
  }

  /** What the upstream has, for the commands that list commits. */
  #known(): string[] {
    return ["--not", this.#call.base, "--alternate-refs", ...KNOWN];
  }

  /** Null when there are too many. */
  #newBlobs(): Promise<Blob[] | null> {
    return (this.#blobs ??= this.#listBlobs());
  }

  async #listBlobs(): Promise<Blob[] | null> {
    const args = ["rev-list", "--objects", this.#call.head, ...this.#known()];
    const listed = await this.#run([...MIRRORED, ...args], LIST_BYTES);
    if (listed.truncated) return null;
    const paths = new Map<string, string>();
    for (const line of listed.text.split("\n")) {
      const at = line.indexOf(" ");
      if (at > 0) paths.set(line.slice(0, at), line.slice(at + 1));
    }
    const input = `${[...paths.keys()].join("\n")}\n`;
    const checked = await this.#run(["cat-file", "--batch-check"], LIST_BYTES, input);
    return checked.text.split("\n").flatMap((line) => {
      const [object = "", type, size] = line.split(" ");
      return type === "blob" ? [{ object, path: paths.get(object) ?? "", size: Number(size) }] : [];
    });
  }

  async #read(blobs: readonly Blob[]): Promise<{ readonly path: string; readonly bytes: Buffer }[]> {
    const input = `${blobs.map(({ object }) => object).join("\n")}\n`;
    const limit = blobs.reduce((sum, { size }) => sum + size + 200, 0);
    const { bytes } = await this.#run(["cat-file", "--batch"], limit, input);
    let at = 0;
    return blobs.map(({ path, size }) => {
      const start = bytes.indexOf(0x0a, at) + 1;
      at = start + size + 1;
      return { path, bytes: bytes.subarray(start, start + size) };
    });
  }

  #run(args: readonly string[], maxBytes?: number, input?: string): ReturnType<Git> {
    const { cwd } = this.#call;
    const limit = maxBytes === undefined ? {} : { maxBytes };
    return this.#git({ cwd, signal: this.#signal, args, ...limit, ...(input === undefined ? {} : { input }) });
  }
}

const toLatin1 = (text: string): string => Buffer.from(text).toString("latin1");

const TOO_MANY: Found = { kind: "large_change", path: "", detail: "too many files to look at" };

const inMb = (bytes: number): string => (bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0);

function cap(found: readonly Found[]): Found[] {
  return found.slice(0, KEPT);
}

function* toBatches(blobs: readonly Blob[]): Generator<readonly Blob[]> {
  let batch: Blob[] = [];
  let bytes = 0;
  for (const blob of blobs) {
    if (batch.length === BATCH_FILES || (batch.length > 0 && bytes + blob.size > BATCH_BYTES)) {
      yield batch;
      [batch, bytes] = [[], 0];
    }
    batch.push(blob);
    bytes += blob.size;
  }
  if (batch.length > 0) yield batch;
}

/** `--raw -z`: modes, ids and a letter, then the path. */
function readRaw(text: string): ChangedEntry[] {
  const fields = text.split("\0");
  const found: ChangedEntry[] = [];
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const [oldMode = "", newMode = "", , object = ""] = (fields[at] ?? "").slice(1).split(" ");
    found.push({ oldMode, newMode, object, path: fields[at + 1] ?? "" });
  }
  return found;
}
