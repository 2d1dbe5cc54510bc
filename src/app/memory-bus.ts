/**
 * The bus of a single coordinator: hints and deltas go straight to the listeners of this process.
 */
import { errorMessage } from "../core/error.ts";
import type { Bus, Deleted, Delta, Hint, Log } from "../core/ports/runtime.ts";

/**
 * Delivers before the `publish` functions return. A listener that throws is logged and
 * does not stop the others. Only the keys of Hint and Delta are delivered (rule R4).
 */
export function memoryBus(log?: Pick<Log, "error">): Bus {
  const hints = new Set<(hint: Hint) => void>();
  const deletions = new Set<(deleted: Deleted) => void>();
  const reads = new Set<(userId: string) => void>();
  const deltas = new Set<(delta: Delta) => void>();

  function deliver<T>(listeners: ReadonlySet<(value: T) => void>, value: T): void {
    for (const listener of listeners) {
      try {
        listener(value);
      } catch (error) {
        log?.error({ error: errorMessage(error) }, "a listener of the bus failed");
      }
    }
  }

  function listen<T>(listeners: Set<(value: T) => void>, listener: (value: T) => void): () => void {
    // A wrapper per registration: the same function can be registered twice and removed once.
    const entry = (value: T): void => listener(value);
    listeners.add(entry);
    return () => listeners.delete(entry);
  }

  return {
    publishHint: ({ taskId, userId, seq }) => deliver(hints, { taskId, userId, seq }),
    publishDeleted: ({ taskId, userId }) => deliver(deletions, { taskId, userId }),
    publishRead: (userId) => deliver(reads, userId),
    publishDelta: ({ taskId, userId, messageId, text }) => deliver(deltas, { taskId, userId, messageId, text }),
    onHint: (listener) => listen(hints, listener),
    onDeleted: (listener) => listen(deletions, listener),
    onRead: (listener) => listen(reads, listener),
    onDelta: (listener) => listen(deltas, listener),
    async close() {
      hints.clear();
      deletions.clear();
      reads.clear();
      deltas.clear();
    },
  };
}
