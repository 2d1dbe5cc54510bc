/**
 * Reports the task that the page shows: the server sends no notifications about it meanwhile, and
 * its events count as read.
 */
import { useEffect } from "react";
import { client, impatientClient } from "../client.ts";
import { putTask } from "../tasks/task-list.ts";
import { newKey } from "../../../../src/client/transport.ts";

const AGAIN_MS = 20_000;
const page = newKey();

/** Calls it now, whenever the page is shown or hidden, and while it is shown again and again. */
function follow(tell: (isVisible: boolean) => void): () => void {
  const isVisible = (): boolean => document.visibilityState === "visible";
  const change = (): void => tell(isVisible());
  change();
  document.addEventListener("visibilitychange", change);
  const timer = setInterval(() => {
    if (isVisible()) change();
  }, AGAIN_MS);
  return () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", change);
  };
}

/**
 * @param unread the seq of the unread event that the page shows; 0 = all of it is read.
 * @param connection when it changes, a mark that was not sent is sent again.
 */
export function usePresence(taskId: string, unread: number, connection: string): void {
  useEffect(() => {
    const say = (shown: string | null): void => void client.push.look(page, shown).catch(() => undefined);
    const stop = follow((isVisible) => say(isVisible ? taskId : null));
    return () => {
      stop();
      say(null);
    };
  }, [taskId]);
  useEffect(() => {
    if (unread === 0) return undefined;
    return follow((isVisible) => {
      if (isVisible) impatientClient.markRead(taskId, unread).then(putTask, () => undefined);
    });
  }, [taskId, unread, connection]);
}
