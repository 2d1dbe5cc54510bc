/** Whether the log on this device is the server's, up to the moment that is shown. */
import { useEffect, useState } from "react";
import type { WireEvent } from "../../../../../src/core/protocol/events.ts";
import { client, problemText } from "../../../lib/client.ts";
import { dropTasks } from "../../../lib/device/kept.ts";
import { digestLog } from "../../../lib/log/digest.ts";
import { formatCount } from "../../../lib/format.ts";
import { useTaskView } from "../task-screen.tsx";

/** The moment is still for this long. */
const STILL_MS = 300;

type Comparison =
  | { readonly kind: "same" | "differs"; readonly seq: number; readonly digest: string }
  | { readonly kind: "unknown"; readonly problem: string };

/** @param events the log up to the moment. */
export function InSync({ events }: { events: readonly WireEvent[] }) {
  const { task } = useTaskView();
  const [found, setFound] = useState<Comparison | null>(null);
  const seq = events.at(-1)?.seq ?? 0;
  useEffect(() => {
    if (seq === 0) return undefined;
    const stop = new AbortController();
    const look = async (): Promise<void> => {
      const next = await compare(task.id, seq, events, stop.signal);
      if (!stop.signal.aborted) setFound(next);
    };
    const timer = setTimeout(() => void look(), STILL_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [task.id, seq, events]);
  return (
    <>
      <dt>Log</dt>
      <dd>
        <span role="status" aria-label="Log">
          <Said found={found} />
        </span>
        {found?.kind === "differs" && (
          <button className="btn line" type="button" onClick={() => void readAgain(task.id)}>
            Read it again
          </button>
        )}
      </dd>
    </>
  );
}

function Said({ found }: { found: Comparison | null }) {
  if (found === null) return "compared with the server’s…";
  if (found.kind === "unknown") return `could not be compared: ${found.problem}`;
  const place = `at ${formatCount(found.seq)}`;
  return found.kind === "same" ? (
    <>
      in sync {place}, digest <code>{found.digest}</code>
    </>
  ) : (
    `differs from the server’s ${place}`
  );
}

async function compare(
  id: string,
  seq: number,
  events: readonly WireEvent[],
  signal: AbortSignal,
): Promise<Comparison | null> {
  try {
    const [own, { digest }] = await Promise.all([digestLog(events, signal), client.logDigest(id, seq, { signal })]);
    return { kind: own === digest ? "same" : "differs", seq, digest };
  } catch (thrown) {
    return signal.aborted ? null : { kind: "unknown", problem: problemText(thrown) };
  }
}

/** What this device kept of the task goes; the page begins again with the server's log. */
async function readAgain(id: string): Promise<void> {
  await dropTasks([id]);
  location.reload();
}
