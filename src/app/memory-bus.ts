/**
 * The bus of a single coordinator: hints and deltas go straight to the listeners of this process.
 */
import { errorMessage } from "../core/error.ts";
import type { Bus, Delta, Hint, Log } from "../core/ports/runtime.ts";

/**
 * Delivers before `announce` and `whisper` return. A listener that throws is reported to `log` and
 * stops nobody else. What is passed on has the keys of Hint and Delta and no others, whatever the
 * caller held in its hands (rule R4).
 */
export function memoryBus(log?: Pick<Log, "error">): Bus {
  const hints = new Set<(hint: Hint) => void>();
  const deltas = new Set<(delta: Delta) => void>();

  function tell<T>(listeners: ReadonlySet<(value: T) => void>, value: T): void {
    for (const listener of listeners) {
      try {
        listener(value);
      } catch (error) {
        log?.error({ error: errorMessage(error) }, "a listener of the bus failed");
      }
    }
  }

  function listen<T>(listeners: Set<(value: T) => void>, listener: (value: T) => void): () => void {
    // A wrapper of its own, so that the same function may listen twice and leave once.
    const entry = (value: T): void => listener(value);
    listeners.add(entry);
    return () => listeners.delete(entry);
  }

  return {
    publishHint: ({ taskId, userId, seq }) => tell(hints, { taskId, userId, seq }),
    publishDelta: ({ taskId, userId, messageId, text }) => tell(deltas, { taskId, userId, messageId, text }),
    onHint: (listener) => listen(hints, listener),
    onDelta: (listener) => listen(deltas, listener),
    async close() {
      hints.clear();
      deltas.clear();
    },
  };
}
