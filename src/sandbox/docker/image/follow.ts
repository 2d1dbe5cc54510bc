/** The engine's report of a build or a pull, read to its end. */
import { Readable } from "node:stream";
import { TaskFailure } from "../../../core/failure.ts";
import { isDiskFullMessage } from "../../../core/lib/disk-full.ts";
import { diskFull, toEngineError } from "../engine.ts";
import { parseLine, type Line } from "./progress.ts";

/** Longest silence of a build or a pull, ms. */
export const SILENCE_MS = 5 * 60_000;
const NO_SUCH_IMAGE =
  /not found|manifest unknown|does not exist|access denied|unauthorized|no such image|invalid reference|no matching manifest|unsupported manifest|denied:/i;

/**
 * What words of a registry or an engine mean: an image that is not there, or a transfer that may
 * work the next time.
 */
export function pullFailure(detail: string, words: string, said: readonly string[] = []): TaskFailure {
  const code = NO_SUCH_IMAGE.test(words) ? "image_missing" : "image_pull_failed";
  const advice = /no matching manifest/i.test(words) ? " It exists, but not for this engine's architecture." : "";
  return new TaskFailure(code, {
    detail: `${detail}: ${words.slice(0, 300)}.${advice}`,
    evidence: [...said, words].join("\n"),
  });
}

/** Rejects when the engine reports an error or says nothing for too long. */
export async function followProgress(
  stream: NodeJS.ReadableStream,
  what: string,
  tell: (line: Line) => void,
  signal: AbortSignal,
): Promise<void> {
  const source = stream instanceof Readable ? stream : new Readable().wrap(stream);
  const said: string[] = [];
  let rest = "";
  let timer = setTimeout(silent, SILENCE_MS);
  function silent(): void {
    source.destroy(new Error(`no progress within ${SILENCE_MS} ms`));
  }
  const stop = (): void => void source.destroy(new Error("aborted"));
  signal.addEventListener("abort", stop, { once: true });
  function hear(raw: string): void {
    const line = parseLine(raw);
    const { text, error, layer } = line;
    if (text !== null && layer === null) said.push(text);
    if (said.length > 60) said.shift();
    if (error !== null && isDiskFullMessage(`${error} ${said.slice(-5).join(" ")}`))
      throw diskFull([...said, error].join("\n"));
    if (error !== null) throw pullFailure(what, error, said);
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
    throw toEngineError(error, signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}
