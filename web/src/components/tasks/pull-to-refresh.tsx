/** A finger that pulls the list down at its top reads it again. */
import { useEffect, useState } from "react";
import { impatientClient, problemText, queryClient } from "../../lib/client.ts";
import { formatSecond } from "../../lib/format.ts";
import { serverNow } from "../../lib/server-time.ts";
import { putTask, tryNow } from "../../lib/tasks/task-list.ts";
import { LIST_LENGTH } from "../../boot.ts";
import { Icon } from "../icon.tsx";

/** From here a release reads the list, pixels. */
const FAR = 72;
const SAID_MS = 3_000;

type Pull = "none" | "near" | "far" | "busy" | { readonly said: string };

const TEXTS = { near: "Pull to refresh", far: "Release to refresh", busy: "Reading the list…" } as const;

export function PullToRefresh() {
  const [pull, setPull] = useState<Pull>("none");
  useEffect(() => watchPull(setPull, () => void refresh().then((said) => setPull({ said }))), []);
  useEffect(() => {
    if (typeof pull === "string") return undefined;
    const timer = setTimeout(() => setPull("none"), SAID_MS);
    return () => clearTimeout(timer);
  }, [pull]);
  const text = typeof pull === "string" ? (pull === "none" ? "" : TEXTS[pull]) : pull.said;
  return (
    <p className={text === "" ? "pull" : "pull shown"} role="status">
      {text !== "" && <Icon name="sync" small className={pull === "far" ? "flip" : ""} />}
      {text}
    </p>
  );
}

async function refresh(): Promise<string> {
  tryNow();
  try {
    const page = await impatientClient.tasks({ limit: LIST_LENGTH });
    for (const task of page.items) putTask(task);
    await queryClient.invalidateQueries();
    return `Up to date at ${formatSecond(serverNow())}`;
  } catch (thrown) {
    return problemText(thrown);
  }
}

/** @returns ends it. */
function watchPull(onChange: (pull: Pull) => void, onRelease: () => void): () => void {
  const stop = new AbortController();
  const { signal } = stop;
  let from: Touch | null = null;
  let isFar = false;
  const begin = ({ touches, target }: TouchEvent): void => {
    const isInSheet = target instanceof Element && target.closest("dialog") !== null;
    from = touches.length === 1 && scrollY <= 0 && !isInSheet ? (touches[0] ?? null) : null;
    isFar = false;
  };
  const move = (event: TouchEvent): void => {
    const finger = event.touches[0];
    if (from === null || finger === undefined) return;
    const down = finger.clientY - from.clientY;
    const aside = Math.abs(finger.clientX - from.clientX);
    const isPulled = down > 0 && aside <= down && scrollY <= 0;
    if (isPulled && event.cancelable) event.preventDefault();
    isFar = isPulled && down >= FAR;
    onChange(isFar ? "far" : isPulled ? "near" : "none");
  };
  const end = ({ type }: TouchEvent): void => {
    if (from === null) return;
    from = null;
    const isPulled = isFar && type === "touchend";
    onChange(isPulled ? "busy" : "none");
    if (isPulled) onRelease();
  };
  addEventListener("touchstart", begin, { passive: true, signal });
  addEventListener("touchmove", move, { passive: false, signal });
  addEventListener("touchend", end, { signal });
  addEventListener("touchcancel", end, { signal });
  return () => stop.abort();
}
