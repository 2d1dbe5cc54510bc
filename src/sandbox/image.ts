/**
 * The worker's image. One that was named must be there or come from a registry. Otherwise Slipway builds its own from the Dockerfile's
 * `worker` target; the tag holds a digest of what went in, so that an upgraded worker is another image.
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { messageOf } from "../error.ts";
import { TaskFailure, type FailureCode } from "../failure.ts";
import { diskFull, refusedWith, saysDiskFull, translate, type Engine } from "./engine.ts";
import { parseLine, teller } from "./report.ts";
import { tar } from "./tar.ts";

export interface WorkerSource {
  readonly dockerfile: string;
  /** dist/worker.mjs, or a stand-in. */
  readonly workerFile: string;
}

/** Longest silence of a build or a pull, ms. */
const SILENCE_MS = 5 * 60_000;
const NO_SUCH_IMAGE = /not found|manifest unknown|does not exist|pull access denied|no such image|invalid reference/i;

export interface Image {
  /** The name to create containers from. Rejects with `image_missing` when the sources of the image are not there. */
  name(): Promise<string>;
  /** Resolves when the engine has it. Rejects with `image_missing`, `image_pull_failed` or `sandbox_unavailable`. */
  prepare(progress: (text: string) => void, signal: AbortSignal): Promise<void>;
}

function failureOf(code: FailureCode, detail: string, evidence: readonly string[]): TaskFailure {
  return new TaskFailure(code, { detail, evidence: evidence.join("\n") });
}

/** Reads the engine's report of a build or a pull to its end. Rejects when it reports an error or says nothing for too long. */
async function follow(stream: NodeJS.ReadableStream, what: string, progress: (text: string) => void, signal: AbortSignal): Promise<void> {
  const source = stream instanceof Readable ? stream : new Readable().wrap(stream);
  const said: string[] = [];
  let rest = "";
  let timer = setTimeout(silent, SILENCE_MS);
  function silent(): void {
    source.destroy(new Error(`no progress within ${SILENCE_MS} ms`));
  }
  const stop = (): void => void source.destroy(new Error("aborted"));
  signal.addEventListener("abort", stop, { once: true });
  const tell = teller(progress, Date.now);
  function hear(raw: string): void {
    const line = parseLine(raw);
    const { text, error, layer } = line;
    if (text !== null && layer === null) said.push(text);
    if (said.length > 60) said.shift();
    if (error !== null && saysDiskFull(`${error} ${said.slice(-5).join(" ")}`)) throw diskFull([...said, error].join("\n"));
    if (error !== null)
      throw failureOf(NO_SUCH_IMAGE.test(error) ? "image_missing" : "image_pull_failed", `${what}: ${error}`, [...said, error]);
    tell(line);
  }
  try {
    for await (const piece of source) {
      clearTimeout(timer);
      timer = setTimeout(silent, SILENCE_MS);
      const lines = (rest + String(piece)).split("\n");
      rest = lines.pop() ?? "";
      lines.filter((line) => line.trim() !== "").forEach(hear);
    }
    if (rest.trim() !== "") hear(rest);
  } catch (error) {
    throw translate(error, signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}

export function openImage(engine: Engine, named: string | null, source: WorkerSource): Image {
  let running: { readonly done: Promise<void>; readonly listeners: Set<(text: string) => void> } | null = null;

  async function parts(): Promise<{ dockerfile: Buffer; worker: Buffer }> {
    try {
      return { dockerfile: await readFile(source.dockerfile), worker: await readFile(source.workerFile) };
    } catch (error) {
      throw failureOf("image_missing", "What the worker image is built from is not there: run `npm run build`.", [messageOf(error)]);
    }
  }

  async function name(): Promise<string> {
    if (named !== null) return named;
    const { dockerfile, worker } = await parts();
    const digest = createHash("sha256").update(dockerfile).update("\0").update(worker).digest("hex");
    return `slipway-worker:${digest.slice(0, 12)}`;
  }

  async function exists(image: string, signal: AbortSignal): Promise<boolean> {
    try {
      await engine.call((docker) => docker.getImage(image).inspect(), signal);
      return true;
    } catch (error) {
      if (refusedWith(error, 404)) return false;
      throw error;
    }
  }

  async function build(image: string, progress: (text: string) => void, signal: AbortSignal): Promise<void> {
    const { dockerfile, worker } = await parts();
    const context = tar({ Dockerfile: dockerfile, "dist/worker.mjs": worker });
    progress(`building ${image}`);
    const options = { t: image, target: "worker", rm: true, forcerm: true };
    const stream = await engine.call((docker) => docker.buildImage(Readable.from([context]), options), signal, SILENCE_MS);
    await follow(stream, "The worker image could not be built", progress, signal);
  }

  async function pull(image: string, progress: (text: string) => void, signal: AbortSignal): Promise<void> {
    progress(`pulling ${image}`);
    try {
      const stream = await engine.call((docker) => docker.pull(image), signal, SILENCE_MS);
      await follow(stream, `${image} could not be pulled`, progress, signal);
    } catch (error) {
      if (!refusedWith(error, 400, 403, 404, 500)) throw error;
      const words = messageOf(error);
      throw failureOf(NO_SUCH_IMAGE.test(words) ? "image_missing" : "image_pull_failed", `${image} could not be pulled.`, [words]);
    }
  }

  async function make(image: string, progress: (text: string) => void, signal: AbortSignal): Promise<void> {
    await (named === null ? build(image, progress, signal) : pull(image, progress, signal));
    if (!(await exists(image, signal))) throw failureOf("image_missing", `The engine has no image ${image}.`, []);
    progress(`${image} is ready`);
  }

  /** Tasks that start together share one build; whoever gives up leaves the others their build. */
  function share(image: string): { readonly done: Promise<void>; readonly listeners: Set<(text: string) => void> } {
    if (running !== null) return running;
    const listeners = new Set<(text: string) => void>();
    const done = make(image, (text) => listeners.forEach((tell) => tell(text)), new AbortController().signal).finally(
      () => (running = null),
    );
    done.catch(() => undefined);
    running = { done, listeners };
    return running;
  }

  async function prepare(progress: (text: string) => void, signal: AbortSignal): Promise<void> {
    const image = await name();
    if (await exists(image, signal)) return;
    const { done, listeners } = share(image);
    listeners.add(progress);
    let stop: () => void = () => undefined;
    const aborted = new Promise<never>((_, reject) => {
      stop = () => reject(signal.reason);
      signal.addEventListener("abort", stop, { once: true });
    });
    try {
      await Promise.race([done, aborted]);
    } finally {
      listeners.delete(progress);
      signal.removeEventListener("abort", stop);
    }
  }

  return { name, prepare };
}
