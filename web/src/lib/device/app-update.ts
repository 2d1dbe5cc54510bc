/**
 * The service worker of this page: registered once, and a new version of it is offered, never
 * forced. All tabs begin again when one of them takes the new version: old files are gone then.
 */
import { createStore } from "../store.ts";

interface ScriptPolicy {
  createScriptURL(text: string): unknown;
}
interface PolicyFactory {
  createPolicy(name: string, rules: ScriptPolicy): ScriptPolicy;
}

const SCRIPT = "/sw.js";
const FIRST_WAIT_MS = 10_000;
const LOOK_MS = 60 * 60_000;

/** The new version that waits for the page's consent; null = none. */
export const waitingVersion = createStore<ServiceWorker | null>(null);

/** The page's policy accepts only addresses of scripts that this function names. */
function toScriptUrl(path: string): string {
  const factory = Reflect.get(globalThis, "trustedTypes") as PolicyFactory | undefined;
  if (factory === undefined) return path;
  const policy = factory.createPolicy("slipway", {
    createScriptURL: (text) => {
      if (text !== SCRIPT) throw new TypeError("not a script of this app");
      return text;
    },
  });
  return policy.createScriptURL(path) as string;
}

/** Without https, and where service workers are forbidden, the app works without. */
export function registerServiceWorker(): void {
  if (!("serviceWorker" in navigator)) return;
  const { serviceWorker } = navigator;
  let isControlled = serviceWorker.controller !== null;
  serviceWorker.addEventListener("controllerchange", () => {
    // The first version takes over the page that loaded it, which has its files already.
    if (isControlled || waitingVersion.get() !== null) location.reload();
    isControlled = true;
  });
  void register(toScriptUrl(SCRIPT), FIRST_WAIT_MS);
  void serviceWorker.ready.then(watchVersions);
}

/**
 * A first version that cannot be installed leaves no registration: a file was not there, or the
 * network ended meanwhile. It is registered again. @param wait ms until then, longer each time.
 */
async function register(script: string, wait: number): Promise<void> {
  const tryAgain = (): void => void setTimeout(() => void register(script, Math.min(wait * 2, LOOK_MS)), wait);
  try {
    const { installing, waiting, active } = await navigator.serviceWorker.register(script, { updateViaCache: "none" });
    if (waiting !== null || active !== null) return;
    if (installing === null) return tryAgain();
    installing.addEventListener("statechange", () => {
      if (installing.state === "redundant") tryAgain();
    });
  } catch {
    tryAgain();
  }
}

/** @param registration has an active version. */
function watchVersions(registration: ServiceWorkerRegistration): void {
  const offer = (worker: ServiceWorker | null): void => {
    if (worker?.state === "installed") waitingVersion.set(worker);
  };
  const watch = (): void => {
    const { installing } = registration;
    installing?.addEventListener("statechange", () => offer(installing));
  };
  offer(registration.waiting);
  watch();
  registration.addEventListener("updatefound", watch);
  let lookedAt = Date.now();
  const look = (): void => {
    if (document.visibilityState !== "visible" || Date.now() - lookedAt < LOOK_MS) return;
    lookedAt = Date.now();
    void registration.update().catch(() => undefined);
  };
  document.addEventListener("visibilitychange", look);
  setInterval(look, LOOK_MS);
}

export function takeNewVersion(): void {
  waitingVersion.get()?.postMessage("take-over");
}
