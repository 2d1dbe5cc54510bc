/** Downloads all that a person has, and says how far it is. */
import { useEffect, useRef, useState } from "react";
import { SlipwayProblem } from "../../../../../src/client/problem.ts";
import { Icon } from "../../../components/icon.tsx";
import { problemText } from "../../../lib/client.ts";
import { chooseFile, type SaveStream } from "../../../lib/device/saving.ts";
import { formatBytes } from "../../../lib/format.ts";

type Progress =
  | { readonly kind: "idle" }
  | { readonly kind: "running"; readonly bytes: number }
  | { readonly kind: "saved"; readonly bytes: number }
  | { readonly kind: "failed"; readonly text: string };

type Read = (signal: AbortSignal) => Promise<ReadableStream<Uint8Array>>;

/** Between two changes of the number on the screen, ms. */
const SHOW_MS = 250;

interface ExportRowProps {
  /** Of the file. */
  readonly name: string;
  readonly what: string;
  readonly read: Read;
}

export function ExportRow({ name, what, read }: ExportRowProps) {
  const [progress, setProgress] = useState<Progress>({ kind: "idle" });
  const running = useRef<AbortController | null>(null);
  useEffect(() => () => running.current?.abort(), []);
  const start = async (): Promise<void> => {
    const save = await chooseFile(name);
    if (save === null) return;
    const stop = new AbortController();
    running.current = stop;
    setProgress({ kind: "running", bytes: 0 });
    const show = (bytes: number): void => setProgress({ kind: "running", bytes });
    const next = await transfer(read, save, stop.signal, show);
    setProgress(next);
  };
  return (
    <li>
      <Icon name="down" />
      <span>
        <b>Export</b>
        <Said progress={progress} what={what} />
      </span>
      {progress.kind === "running" ? (
        <button className="btn line" type="button" onClick={() => running.current?.abort()}>
          Cancel
        </button>
      ) : (
        <button className="btn line" type="button" aria-label="Export as a file" onClick={() => void start()}>
          Export
        </button>
      )}
    </li>
  );
}

/** The number that grows is not announced; how it ended is. */
function Said({ progress, what }: { progress: Progress; what: string }) {
  if (progress.kind === "failed")
    return (
      <small className="bad" role="alert">
        {progress.text}
      </small>
    );
  if (progress.kind === "saved") return <small role="status">Saved, {formatBytes(progress.bytes)}.</small>;
  return <small>{progress.kind === "idle" ? what : `${formatBytes(progress.bytes)} so far`}</small>;
}

async function transfer(
  read: Read,
  save: SaveStream,
  signal: AbortSignal,
  onProgress: (bytes: number) => void,
): Promise<Progress> {
  let bytes = 0;
  let shownAt = 0;
  const count = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      bytes += chunk.byteLength;
      const at = performance.now();
      if (at - shownAt >= SHOW_MS) {
        shownAt = at;
        onProgress(bytes);
      }
      controller.enqueue(chunk);
    },
  });
  try {
    await save((await read(signal)).pipeThrough(count));
    return { kind: "saved", bytes };
  } catch (thrown) {
    return signal.aborted ? { kind: "idle" } : { kind: "failed", text: describe(thrown, bytes) };
  }
}

function describe(thrown: unknown, bytes: number): string {
  if (thrown instanceof SlipwayProblem) return problemText(thrown);
  if (thrown instanceof DOMException && thrown.name === "QuotaExceededError")
    return `This device has no room for it after ${formatBytes(bytes)}. Free some, then export again.`;
  return `The connection broke after ${formatBytes(bytes)}, and nothing was saved. Export again.`;
}
