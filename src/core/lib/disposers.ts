/**
 * What is open, and how to close it: a stand-in for AsyncDisposableStack, which Node 20 does not
 * have.
 *
 * D1 Disposers run one at a time, in the reverse order of `add`.
 * D2 A disposer that fails does not stop the others; `close` rejects with the first failure after
 *    all of them have run.
 * D3 `close` is idempotent: further calls return the promise of the first.
 */
export class Disposers {
  readonly #disposers: (() => unknown)[] = [];
  #closing: Promise<void> | null = null;

  add(dispose: () => unknown): void {
    this.#disposers.push(dispose);
  }

  close(): Promise<void> {
    return (this.#closing ??= this.#closeAll());
  }

  async #closeAll(): Promise<void> {
    const failures: unknown[] = [];
    for (const dispose of this.#disposers.toReversed()) {
      try {
        await dispose();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}
