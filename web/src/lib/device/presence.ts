/** Tells the server which task this page shows to its person, so that nothing is sent about it. */
import { useEffect } from "react";
import { client } from "../client.ts";
import { newKey } from "./outbox.ts";

const AGAIN_MS = 20_000;
const page = newKey();

export function usePresence(taskId: string): void {
  useEffect(() => {
    const say = (shown: string | null): void => void client.push.look(page, shown).catch(() => undefined);
    const tell = (): void => say(document.visibilityState === "visible" ? taskId : null);
    tell();
    document.addEventListener("visibilitychange", tell);
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") tell();
    }, AGAIN_MS);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", tell);
      say(null);
    };
  }, [taskId]);
}
