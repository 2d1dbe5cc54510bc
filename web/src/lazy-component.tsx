/** Parts of the app that are loaded when they are needed. A request that fails is made again. */
import { lazy, type ComponentType } from "react";
import { problemText } from "./lib/client.ts";

const WAITS_MS = [500, 1_500, 4_000];

/** @param get `import()`s it. A browser asks again for a module that it could not load. */
export async function importWithRetry<T>(get: () => Promise<T>): Promise<T> {
  for (const wait of WAITS_MS) {
    try {
      return await get();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
  return get().catch((cause: unknown) => {
    throw new Error("A part of the app could not be loaded. Drafts are kept.", { cause });
  });
}

/**
 * As `lazy`, but the screen goes on without a part that cannot be loaded. @param otherwise stands
 * in its place; absent = what says so.
 */
export const lazyComponent = <P,>(get: () => Promise<ComponentType<P>>, otherwise?: ComponentType<P>) =>
  lazy(async (): Promise<{ default: ComponentType<P> }> => ({
    default: await importWithRetry(get).catch((error: unknown) => otherwise ?? (() => <Failed error={error} />)),
  }));

/** In the place of what cannot be shown. */
export function Failed({ error }: { error: unknown }) {
  return (
    <div className="banner st-failed" role="alert">
      <span className="grow">{problemText(error)}</span>
      <button className="btn" type="button" onClick={() => location.reload()}>
        Reload
      </button>
    </div>
  );
}
