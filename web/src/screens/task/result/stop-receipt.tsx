/** What proves the end of a stopped task: its container, its last charge, and where the work is. */
import { queryOptions, useQuery } from "@tanstack/react-query";
import type { Attempt } from "../../../../../src/client/types.ts";
import type { WireTask } from "../../../../../src/core/protocol/rest.ts";
import { client } from "../../../lib/client.ts";
import { formatSecond, formatUsd } from "../../../lib/format.ts";
import type { SavedWork, StopProof } from "../../../lib/log/stop-proof.ts";
import { useTaskView } from "../task-screen.tsx";

/** More events than a task emits after its last charge. */
const NEWEST = 200;
/** The exit code comes a moment after the end: so often it is asked for, and so long apart. */
const LOOKS = 4;
const LOOK_MS = 2_000;

/** The exit code of a program that a signal ended is 128 and the number of the signal. */
function describeExit({ exitCode }: Attempt): string {
  if (exitCode === 143) return "by SIGTERM";
  if (exitCode === 137) return "killed";
  return exitCode === null ? "" : `by itself, exit ${exitCode}`;
}

export const receiptQuery = ({ id, seq }: WireTask) =>
  queryOptions({
    queryKey: ["stopped", id, seq],
    queryFn: async ({ signal }) => {
      const [attempts, newest] = await Promise.all([
        client.attempts(id, { limit: 50 }, { signal }),
        client.events(id, { before: "latest", limit: NEWEST }, { signal }),
      ]);
      // Newest first.
      const charge = newest.items.find((event) => event.type === "usage" && event.data["usd"] !== 0);
      return { attempts: attempts.items, charge };
    },
  });

interface ReceiptProps {
  readonly stop: StopProof;
  readonly saved: SavedWork | null;
}

const findAttempt = (attempts: readonly Attempt[] | undefined, stop: StopProof): Attempt | undefined =>
  attempts?.find(({ number }) => number === stop.attempt);

export function StopReceipt({ stop, saved }: ReceiptProps) {
  const { task } = useTaskView();
  const { data } = useQuery({
    ...receiptQuery(task),
    refetchInterval: ({ state }) =>
      typeof findAttempt(state.data?.attempts, stop)?.exitCode === "number" || state.dataUpdateCount >= LOOKS
        ? false
        : LOOK_MS,
  });
  if (data === undefined) return null;
  const attempt = findAttempt(data.attempts, stop);
  const { charge } = data;
  const parts = [
    charge === undefined ? "" : describeCharge(charge.at, charge.data["usd"]),
    describeTotal(task.usage.usd),
  ];
  return (
    <dl className="facts">
      {attempt !== undefined && (
        <>
          <dt>Container</dt>
          <dd>
            <code>{attempt.container}</code> gone
            {attempt.endedAt !== null && ` at ${formatSecond(Date.parse(attempt.endedAt))}`}
            {describeExit(attempt) !== "" && `, ${describeExit(attempt)}`}
          </dd>
        </>
      )}
      <dt>Last charge</dt>
      <dd>{parts.filter((part) => part !== "").join("; ")}</dd>
      {saved !== null && (
        <>
          <dt>Work saved as</dt>
          <dd>
            <code>{saved.sha.slice(0, 7)}</code>
          </dd>
        </>
      )}
    </dl>
  );
}

const describeCharge = (at: string, usd: unknown): string =>
  `${formatUsd(Number(usd))} at ${formatSecond(Date.parse(at))}`;

const describeTotal = (usd: number): string => (usd === 0 ? "none" : `${formatUsd(usd)} in all`);
