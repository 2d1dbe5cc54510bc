/** The whole log of a task: what this device keeps of it, and the rest from the server. */
import { useEffect, useRef, useState } from "react";
import type { WireEvent } from "../../../../../src/core/protocol/events.ts";
import { client, problemText } from "../../../lib/client.ts";
import { readLog } from "../../../lib/device/kept.ts";

const PAGE = 1_000;
/** Between two looks whether there is more. */
const LOOK_MS = 500;

export interface WholeLog {
  readonly events: readonly WireEvent[];
  readonly problem: string | null;
}

const EMPTY: WholeLog = { events: [], problem: null };

/** @param until the seq that is known to exist. */
export function useWholeLog(id: string, until: number): WholeLog {
  const [log, setLog] = useState(EMPTY);
  const wanted = useRef(until);
  useEffect(() => {
    wanted.current = until;
  }, [until]);
  useEffect(() => {
    const stop = new AbortController();
    void follow(id, () => wanted.current, setLog, stop.signal);
    return () => stop.abort();
  }, [id]);
  return log;
}

async function follow(
  id: string,
  until: () => number,
  onChange: (log: WholeLog) => void,
  signal: AbortSignal,
): Promise<void> {
  const { begin, run } = await readLog(id);
  let events = begin.length === 0 ? run : [];
  while (!signal.aborted) {
    let problem: string | null = null;
    try {
      events = [...events, ...(await readRest(id, events.length, until(), signal))];
    } catch (thrown) {
      problem = problemText(thrown);
    }
    if (!signal.aborted) onChange({ events, problem });
    do await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    while (!signal.aborted && problem === null && events.length >= until());
  }
}

/** The seqs of a log are 1, 2, 3, … */
async function readRest(id: string, known: number, until: number, signal: AbortSignal): Promise<WireEvent[]> {
  const rest: WireEvent[] = [];
  while (known + rest.length < until) {
    const { items } = await client.events(id, { after: known + rest.length, limit: PAGE }, { signal });
    if (items.length === 0) break;
    rest.push(...items);
  }
  return rest;
}
