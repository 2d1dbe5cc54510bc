/**
 * Colours of code, found by a worker that is started for the first diff. The end of a large file, a
 * file that takes long, and one whose worker fails stay as they are: plain text.
 */
import type { PatchLine } from "../../../../lib/patch.ts";
import type { ColourAnswer, ColourRequest, WorkerMessage } from "./worker.ts";

/** More stay plain. */
const LINES = 4_000;
const CHARS = 200_000;
/** Of one file, on a slow phone, once the worker is loaded. */
const LIMIT_MS = 10_000;
const LOAD_MS = 60_000;
/** Workers that broke or took too long; then none is started again. */
const FAILURES = 3;

interface ScriptPolicy {
  createScriptURL(text: string): unknown;
}
interface PolicyFactory {
  createPolicy(name: string, rules: ScriptPolicy): ScriptPolicy;
}

let policy: ScriptPolicy | undefined;

/** The page accepts scripts by a policy only; this one accepts files of this app. */
function toScriptUrl({ href, origin, pathname }: URL): string {
  const factory = Reflect.get(globalThis, "trustedTypes") as PolicyFactory | undefined;
  if (origin !== location.origin || !/^\/(?:assets|src)\//.test(pathname))
    throw new TypeError("not a file of this app");
  policy ??= factory?.createPolicy("slipway-syntax", { createScriptURL: (text) => text });
  return (policy?.createScriptURL(href) as string | undefined) ?? href;
}

/** The build finds the file of a worker by the words `new Worker(new URL(`. */
class Worker extends globalThis.Worker {
  constructor(address: URL) {
    super(toScriptUrl(address));
  }
}

let worker: Worker | null = null;
let isLoaded = false;
let failures = 0;
/** One file at a time, so that each has its whole time. */
let turn: Promise<unknown> = Promise.resolve();

/** @returns null = the file stays plain; of a large one the answer has the first lines. */
export function findColours(path: string, lines: readonly PatchLine[]): Promise<ColourAnswer> {
  let chars = 0;
  const end = lines.findIndex(({ text }, i) => (chars += text.length) > CHARS || i === LINES);
  const first = lines.slice(0, end === -1 ? lines.length : end);
  const request = { path, lines: first.map(({ kind, text }) => ({ kind, text })) };
  const answer = turn.then(() => ask(request)).catch(() => null);
  turn = answer;
  return answer;
}

function ask(request: ColourRequest): Promise<ColourAnswer> {
  if (failures >= FAILURES) return Promise.resolve(null);
  const present = (worker ??= new Worker(new URL("./worker.ts", import.meta.url)));
  return new Promise((resolve) => {
    const fail = (): void => {
      clearTimeout(timer);
      failures++;
      worker = null;
      isLoaded = false;
      present.terminate();
      resolve(null);
    };
    let timer = setTimeout(fail, isLoaded ? LIMIT_MS : LOAD_MS);
    present.onerror = fail;
    present.onmessage = ({ data }: MessageEvent<WorkerMessage>) => {
      clearTimeout(timer);
      if (data !== "loaded") return resolve(data);
      isLoaded = true;
      timer = setTimeout(fail, LIMIT_MS);
    };
    present.postMessage(request);
  });
}
