/**
 * The server's time. Ages and countdowns use it, because the clock of a phone may be wrong.
 *
 * The `Date` header has a resolution of one second, so differences below two seconds are ignored.
 */
import { useEffect, useState } from "react";

const IGNORED_MS = 2_000;
let skewMs = 0;
let bestRoundTripMs = Number.POSITIVE_INFINITY;

/** The shortest round trip gives the best estimate; a jump of the local clock replaces it. */
export function observeServerTime(date: string | null, sentAt: number, receivedAt: number): void {
  if (date === null) return;
  const roundTripMs = receivedAt - sentAt;
  const measured = Date.parse(date) + 500 - (sentAt + roundTripMs / 2);
  const changed = Math.abs(measured - skewMs) > roundTripMs / 2 + IGNORED_MS;
  if (Number.isNaN(measured) || roundTripMs < 0 || (!changed && roundTripMs >= bestRoundTripMs)) return;
  bestRoundTripMs = roundTripMs;
  skewMs = Math.abs(measured) < IGNORED_MS ? 0 : measured;
}

export function serverNow(): number {
  return Date.now() + skewMs;
}

/** The server's time, updated each second while the page is visible and `active`. */
export function useNow(active = true): number {
  const [now, setNow] = useState(serverNow);
  useEffect(() => {
    if (!active) return undefined;
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") setNow(serverNow());
    }, 1_000);
    return () => clearInterval(timer);
  }, [active]);
  return now;
}
