/** The state of the connection, shown apart from the state of the task. */
import { formatCount } from "../lib/format.ts";

const TEXT: Readonly<Record<string, string>> = {
  connecting: "connecting",
  live: "in sync",
  polling: "in sync, polling",
  lost: "no connection",
  ended: "complete",
};

/** Where there is no room for more. */
const SHORT: Readonly<Record<string, string>> = {
  connecting: "joining",
  lost: "offline",
  ended: "complete",
};

/** @param seq of the log; on a narrow screen its number stands without the words. */
export function Sync({ connection, seq }: { connection: string; seq: number | null }) {
  const base = TEXT[connection] ?? connection;
  const isGood = connection !== "lost" && connection !== "connecting";
  const isNumbered = seq !== null && seq > 0 && connection !== "connecting" && connection !== "ended";
  const label = isNumbered ? `${base} at ${formatCount(seq)}` : base;
  return (
    <span className={isGood ? "sync" : "sync off"} role="img" aria-label={`Connection: ${label}`}>
      {isNumbered && isGood ? (
        <>
          <span className="words">{base}</span> <span className="at">at</span> {formatCount(seq)}
        </>
      ) : (
        <>
          <span className="words">{label}</span>
          <span className="short">{SHORT[connection] ?? base}</span>
        </>
      )}
    </span>
  );
}
