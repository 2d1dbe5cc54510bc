/**
 * The address of the app.
 *
 * N1 A new address is a transition: what is on the screen stays until the next screen is loaded.
 */
import { createContext, startTransition, use, useEffect, useState, type ReactNode } from "react";
import { Router } from "wouter";

export interface Address {
  readonly path: string;
  /** As in `location`: empty, or with its question mark. */
  readonly search: string;
  /** Of the entry in the history. */
  readonly key: string;
}

/** Without the slash at its end. */
const toPath = (pathname: string): string => pathname.replace(/(?!^)\/$/, "");

const createKey = (): string => Math.random().toString(36).slice(2);

function readAddress(): Address {
  const { key } = (history.state ?? {}) as { key?: string };
  if (key === undefined) {
    history.replaceState({ key: createKey() }, "");
    return readAddress();
  }
  return { path: toPath(location.pathname), search: location.search, key };
}

/** Of the page as it was loaded. */
export const first = readAddress();
let current = first;
const listeners = new Set<() => void>();
let beforeLeaving = (): void => undefined;

/** @param listener is called before the address changes, while the present screen is drawn. */
export function onLeave(listener: () => void): void {
  beforeLeaving = listener;
}

function setAddress(next: Address): void {
  current = next;
  for (const listener of listeners) listener();
}

history.scrollRestoration = "manual";
addEventListener("popstate", () => {
  // Only the fragment is another: the entry is new, the screen is not.
  if (history.state === null) return history.replaceState({ key: current.key }, "");
  beforeLeaving();
  setAddress(readAddress());
  return void preload(location.pathname);
});

let load: (path: string) => Promise<unknown> = () => Promise.resolve();

/** @param loader loads the screen of a path; it may be called again. */
export function onPreload(loader: (path: string) => Promise<unknown>): void {
  load = loader;
}

/** Idempotent. Resolves when the screen is loaded, or cannot be, which the screen says itself. */
export async function preload(to: string): Promise<void> {
  await load(toPath(new URL(to, location.href).pathname)).catch(() => undefined);
}

interface NavigateOptions {
  /** The new address takes the place of the present one in the history. */
  readonly replace?: boolean;
}

/**
 * @param to an address of the app; the present one makes no entry in the history. Resolves when its
 * screen is loaded.
 */
export async function navigate(to: string, { replace = false }: NavigateOptions = {}): Promise<void> {
  beforeLeaving();
  const isSame = new URL(to, location.href).href === location.href;
  history[replace || isSame ? "replaceState" : "pushState"]({ key: createKey() }, "", to);
  setAddress(readAddress());
  await preload(to);
}

/**
 * For what follows an answer that takes a while.
 * @returns `navigate`, which does nothing when the person is at another address by then.
 */
export function navigateFromHere(): typeof navigate {
  const { key } = current;
  return async (to, options) => {
    if (current.key === key) await navigate(to, options);
  };
}

/** False while the person is on the way to another screen, which is not drawn yet. */
export const isAt = (path: string): boolean => current.path === path;

const AddressContext = createContext(current);

/** The address of what is drawn; `location` may be ahead of it (N1). */
export const useAddress = (): Address => use(AddressContext);

const useRoute = (): [string, typeof navigate] => [useAddress().path, navigate];
const useSearch = (): string => useAddress().search;

export function AddressProvider({ children }: { children: ReactNode }) {
  const [address, setShown] = useState(current);
  useEffect(() => {
    const listener = (): void => startTransition(() => setShown(current));
    listeners.add(listener);
    listener();
    return () => void listeners.delete(listener);
  }, []);
  return (
    <AddressContext value={address}>
      <Router hook={useRoute} searchHook={useSearch}>
        {children}
      </Router>
    </AddressContext>
  );
}
