/** The calls about repositories before a task: `client.repositories`. */
import type { CheckRequest, RecentRepositoryRow, RepositoryCheck } from "../core/protocol/repositories.ts";
import type { Transport } from "./transport.ts";
import type { CallOptions } from "./types.ts";

/** Longer than the server waits for a host. */
const CHECK_MS = 60_000;

export class RepositoriesClient {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** What the host says to the caller's credential. Whatever is wrong is in `problems`. */
  check(body: CheckRequest, { signal }: CallOptions = {}): Promise<RepositoryCheck> {
    const path = "/v1/repositories/check";
    return this.#transport.json({ method: "POST", path, body, timeoutMs: CHECK_MS, retries: 1, signal });
  }

  /** Those of the caller's tasks, the last used first. */
  async recent(query: { limit?: number } = {}, { signal }: CallOptions = {}): Promise<RecentRepositoryRow[]> {
    const path = "/v1/repositories/recent";
    const call = { method: "GET", path, query: { ...query }, signal } as const;
    return (await this.#transport.json<{ items: RecentRepositoryRow[] }>(call)).items;
  }
}
