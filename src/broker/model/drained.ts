/** Backpressure. */
import type { ServerResponse } from "node:http";

/** Resolves when the response takes more, or never will: it is closed, or the signal is aborted. */
export function waitForDrain(response: ServerResponse, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off("drain", done).off("close", done);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    response.once("drain", done).once("close", done);
    signal?.addEventListener("abort", done, { once: true });
    if (response.destroyed || signal?.aborted === true) done();
  });
}
