/** Brings back what the page does not hold of a long conversation. */
import { useState } from "react";
import { problemText } from "../../../lib/client.ts";
import { formatCount } from "../../../lib/format.ts";
import { showEarlier } from "../../../lib/log/event-log.ts";

/** @param left events whose blocks are left out. */
export function Earlier({ id, left }: { id: string; left: number }) {
  const [isReading, setReading] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const read = async (): Promise<void> => {
    setReading(true);
    setProblem(await showEarlier(id).then(() => null, problemText));
    setReading(false);
  };
  return (
    <>
      <button className="more-row" type="button" aria-disabled={isReading} onClick={() => void read()}>
        {isReading ? "Reading …" : `Show earlier (${formatCount(left)})`}
      </button>
      {problem !== null && (
        <p className="note" role="alert">
          {problem}
        </p>
      )}
    </>
  );
}
