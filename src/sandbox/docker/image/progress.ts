/**
 * Follows a build or a pull: the engine streams one JSON object per line. All output is kept as
 * evidence for a failure. Reported are each step of a build, and of the rest (downloads, output of
 * commands) at most one line per QUIET_MS.
 */
import { Readable } from "node:stream";
import { TaskFailure } from "../../../core/failure.ts";
import { isDiskFullMessage } from "../../../core/lib/disk/disk-full.ts";
import { diskFull, toEngineError } from "../engine.ts";

export interface Line {
  /** The engine's output; null = none. */
  readonly text: string | null;
  readonly error: string | null;
  /** Id of the layer that the line is about. */
  readonly layer: string | null;
  readonly percent: number | null;
  /** Progress within the layer. */
  readonly bytes: { readonly current: number; readonly total: number } | null;
}

export type ReportLine = (line: Line) => void;

/** Longest silence of a build or a pull, ms. */
export const SILENCE_MS = 5 * 60_000;
/** Shortest time between two reports, except for steps, ms. */
const QUIET_MS = 2_000;
const MAX_CHARACTERS = 120;
/** Lines kept as evidence. */
const MAX_EVIDENCE = 60;
/** Output between the steps that contains only ids. */
const NOISE = /^(?:--->|Removing intermediate container|Successfully (?:built|tagged))/;
const NO_SUCH_IMAGE = new RegExp(
  "not found|manifest unknown|does not exist|access denied|unauthorized|no such image|invalid reference" +
    "|no matching manifest|unsupported manifest|denied:",
  "i",
);

export function parseLine(line: string): Line {
  const empty = { text: null, error: null, layer: null, percent: null, bytes: null };
  try {
    const parsed: unknown = JSON.parse(line);
    if (typeof parsed !== "object" || parsed === null) return empty;
    const read = (key: string): string | null => {
      const value: unknown = Reflect.get(parsed, key);
      return typeof value === "string" && value.trim() !== "" ? value.trim() : null;
    };
    const status = read("status");
    // In the first line of a pull `id` is the tag.
    const layer = status === null || status.startsWith("Pulling from") ? null : read("id");
    const bytes = parseBytes(Reflect.get(parsed, "progressDetail"));
    const percent = bytes === null ? null : toPercent(bytes.current, bytes.total);
    return { text: read("stream") ?? status, error: read("error"), layer, percent, bytes };
  } catch {
    return { ...empty, text: line };
  }
}

function parseBytes(detail: unknown): Line["bytes"] {
  if (typeof detail !== "object" || detail === null) return null;
  const [current, total]: unknown[] = [Reflect.get(detail, "current"), Reflect.get(detail, "total")];
  return typeof current === "number" && typeof total === "number" && total > 0 ? { current, total } : null;
}

const toPercent = (current: number, total: number): number => Math.min(100, Math.floor((current / total) * 100));

/** Reports one percentage for all layers, which are downloaded in parallel and in any order. */
export function createPullReporter(image: string, report: (text: string) => void, now: () => number): ReportLine {
  const layers = new Map<string, { current: number; total: number }>();
  let quietUntil = 0;
  return ({ text, layer, bytes }) => {
    const known = layer === null ? undefined : layers.get(layer);
    if (layer !== null && text === "Downloading" && bytes !== null) layers.set(layer, bytes);
    // Any later status means that the layer is complete; a small layer never reports its size.
    else if (known !== undefined) known.current = known.total;
    if (layers.size === 0 || now() < quietUntil) return;
    quietUntil = now() + QUIET_MS;
    const sum = (key: "current" | "total"): number =>
      [...layers.values()].reduce((total, layerBytes) => total + layerBytes[key], 0);
    const percent = toPercent(sum("current"), sum("total"));
    if (percent === 100) report(`unpacking ${image}`);
    else report(`pulling ${image}: ${percent} % of ${Math.ceil(sum("total") / 1e6)} MB`);
  };
}

/** Reports a build. */
export function createProgressReporter(report: (text: string) => void, now: () => number): ReportLine {
  let quietUntil = 0;
  return ({ text, layer, percent }) => {
    if (text === null || NOISE.test(text)) return;
    const isStep = /^Step \d+\/\d+ /.test(text);
    if (!isStep && now() < quietUntil) return;
    if (!isStep) quietUntil = now() + QUIET_MS;
    const where = layer === null ? "" : ` ${layer}`;
    report(shorten(`${text}${where}${percent === null ? "" : ` ${percent} %`}`));
  };
}

function shorten(text: string): string {
  const line = text.replace(/\s+/g, " ");
  return line.length <= MAX_CHARACTERS ? line : `${line.slice(0, MAX_CHARACTERS - 1)}…`;
}

/**
 * Classifies an error message of a registry or an engine: `image_missing`, or `image_pull_failed`,
 * which a retry may solve.
 */
export function pullFailure(detail: string, message: string, output: readonly string[] = []): TaskFailure {
  const code = NO_SUCH_IMAGE.test(message) ? "image_missing" : "image_pull_failed";
  const advice = /no matching manifest/i.test(message) ? " It exists, but not for this engine's architecture." : "";
  return new TaskFailure(code, {
    detail: `${detail}: ${message.slice(0, 300)}.${advice}`,
    evidence: [...output, message].join("\n"),
  });
}

/**
 * Reads the engine's output to its end. Rejects when it contains an error, and after SILENCE_MS
 * without output.
 * @param failureDetail what could not be done, for the error's detail.
 */
export async function followProgress(
  stream: NodeJS.ReadableStream,
  failureDetail: string,
  report: ReportLine,
  signal: AbortSignal,
): Promise<void> {
  const source = stream instanceof Readable ? stream : new Readable().wrap(stream);
  const handleLine = createLineHandler(failureDetail, report);
  const onSilence = (): void => void source.destroy(new Error(`no progress within ${SILENCE_MS} ms`));
  const onAbort = (): void => void source.destroy(new Error("aborted"));
  let timer = setTimeout(onSilence, SILENCE_MS);
  let rest = "";
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    for await (const piece of source) {
      clearTimeout(timer);
      timer = setTimeout(onSilence, SILENCE_MS);
      const lines = (rest + String(piece)).split("\n");
      rest = lines.pop() ?? "";
      lines.forEach(handleLine);
    }
    handleLine(rest);
  } catch (error) {
    throw toEngineError(error, signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

/** Reports each line that is not empty, and throws at one that contains an error. */
function createLineHandler(failureDetail: string, report: ReportLine): (raw: string) => void {
  const output: string[] = [];
  return (raw) => {
    if (raw.trim() === "") return;
    const line = parseLine(raw);
    const { text, error, layer } = line;
    if (text !== null && layer === null) output.push(text);
    if (output.length > MAX_EVIDENCE) output.shift();
    if (error === null) return report(line);
    if (isDiskFullMessage(`${error} ${output.slice(-5).join(" ")}`)) throw diskFull([...output, error].join("\n"));
    throw pullFailure(failureDetail, error, output);
  };
}
