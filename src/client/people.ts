/** The calls about people and their log-ins: `client.people`. */
import { keyed, type Transport } from "./transport.ts";
import type { CallOptions, KeyedCallOptions, ListQuery, LinkedIdentity, LoginProviders, Page } from "./types.ts";

export class PeopleClient {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Send a browser to `startUrl` to log in with the provider. */
  providers(options: CallOptions = {}): Promise<LoginProviders> {
    return this.#transport.json({
      method: "GET",
      path: "/v1/auth/providers",
      authenticated: false,
      signal: options.signal,
    });
  }

  /** The providers that the caller can log in with. */
  identities(query: ListQuery = {}, options: CallOptions = {}): Promise<Page<LinkedIdentity>> {
    return this.#transport.json({
      method: "GET",
      path: "/v1/me/identities",
      query: { ...query },
      signal: options.signal,
    });
  }

  /** Needs a log-in of the last ten minutes. */
  async unlink(id: string, options: KeyedCallOptions = {}): Promise<void> {
    const path = `/v1/me/identities/${encodeURIComponent(id)}`;
    await this.#transport.send({ method: "DELETE", path, ...keyed(options) });
  }
}
