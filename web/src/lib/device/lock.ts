/** One tab at a time. A page without https has no locks; there each tab is on its own. */

const chains = new Map<string, Promise<unknown>>();

export function withLock<T>(name: string, work: () => Promise<T>): Promise<T> {
  const locks: LockManager | undefined = Reflect.get(navigator, "locks") as LockManager | undefined;
  if (locks !== undefined) return locks.request(name, work);
  const next = (chains.get(name) ?? Promise.resolve()).then(work, work);
  chains.set(name, next);
  return next;
}
