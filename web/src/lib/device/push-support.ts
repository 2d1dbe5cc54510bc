/** Whether this browser can be told anything, whether its person was asked, and the end of it. */

export type PushSupport = "on" | "off" | "denied" | "home-screen" | "none";
export const HOME_SCREEN_HINT =
  "On an iPhone or iPad, add the app to the home screen first: Share, then “Add to Home Screen”.";
export const DEVICE = "slipway.device";
const ASKED = "slipway.push-asked";

export function read(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

export function write(name: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(name);
    else localStorage.setItem(name, value);
  } catch {
    // Then the server gives a new id the next time.
  }
}

/** A browser of an iPad says that it is a Mac, which has no touch screen. */
const isApple = (): boolean =>
  /iPhone|iPad/.test(navigator.userAgent) || (/Macintosh/.test(navigator.userAgent) && navigator.maxTouchPoints > 1);

/** What this browser can do now. `home-screen`: after the app was added to it. */
export function getPushSupport(): PushSupport {
  if (!("serviceWorker" in navigator) || !("PushManager" in globalThis)) return isApple() ? "home-screen" : "none";
  if (Notification.permission === "denied") return "denied";
  return Notification.permission === "granted" && read(DEVICE) !== null ? "on" : "off";
}

/** True once, after the first task that was sent from here. */
export const isWorthAsking = (): boolean => read(ASKED) === "due" && ["off", "home-screen"].includes(getPushSupport());
export const noteSubmit = (): void => {
  if (read(ASKED) === null) write(ASKED, "due");
};
export const noteAsked = (): void => write(ASKED, "done");

/**
 * In this browser alone, also without a network: no notification comes, and those that are shown
 * are gone. @returns the id of what was its device, or null.
 */
export async function unsubscribe(): Promise<string | null> {
  const id = read(DEVICE);
  write(DEVICE, null);
  if (id === null || !("serviceWorker" in navigator)) return null;
  const registration = await navigator.serviceWorker.getRegistration();
  for (const notification of (await registration?.getNotifications()) ?? []) notification.close();
  await (await registration?.pushManager?.getSubscription())?.unsubscribe().catch(() => false);
  return id;
}
