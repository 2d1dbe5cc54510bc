/** Repositories before a task, the variables of their commands, and attachments. */
import type {
  CheckRequest,
  NewVariable,
  RecentRepositoryRow,
  RepositoryCheck,
  RepositoryVariable,
  VariableAddress,
} from "../core/protocol/repositories.ts";
import type { Attachment } from "../core/values/attachment.ts";
import { keyed, type Transport } from "./transport.ts";
import type { CallOptions, KeyedCallOptions, ListQuery, Page } from "./types.ts";

/** Longer than the server waits for a host. */
const CHECK_MS = 60_000;

const VARIABLES = "/v1/variables";

export class RepositoriesClient {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Tests the caller's credential against the git host. `problems` lists every fault that was
   * found.
   */
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

  /** The caller's variables; the values of secrets are null. */
  variables(
    query: ListQuery & { repo?: string } = {},
    { signal }: CallOptions = {},
  ): Promise<Page<RepositoryVariable>> {
    return this.#transport.json({ method: "GET", path: VARIABLES, query: { ...query }, signal });
  }

  /** Replaces the variable of the same name. */
  putVariable(body: NewVariable, options: KeyedCallOptions = {}): Promise<RepositoryVariable> {
    return this.#transport.json({ method: "POST", path: VARIABLES, body, ...keyed(options) });
  }

  async deleteVariable(address: VariableAddress, options: KeyedCallOptions = {}): Promise<void> {
    await this.#transport.send({ method: "DELETE", path: VARIABLES, query: { ...address }, ...keyed(options) });
  }
}

/** A large file on a slow line, ms. */
const UPLOAD_MS = 10 * 60_000;

export class AttachmentsClient {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Uploads a file; its id goes into `attachments` of a submission or a message. The same file
   * again is the same attachment.
   */
  upload(name: string, content: Blob, options: KeyedCallOptions = {}): Promise<Attachment> {
    const call = { method: "POST", path: "/v1/attachments", query: { name }, content } as const;
    return this.#transport.json({ ...call, timeoutMs: UPLOAD_MS, ...keyed(options) });
  }

  /** The bytes as they come. */
  content(id: string, { signal }: CallOptions = {}): Promise<ReadableStream<Uint8Array>> {
    return this.#transport.stream({ method: "GET", path: `/v1/attachments/${encodeURIComponent(id)}`, signal });
  }
}
