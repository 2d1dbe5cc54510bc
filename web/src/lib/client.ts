/** The SDK with the session of this browser, and the cache of REST answers. */
import { QueryClient } from "@tanstack/react-query";
import { SlipwayClient } from "../../../src/client/client.ts";
import type { ClientOptions } from "../../../src/client/options.ts";
import { SlipwayProblem } from "../../../src/client/problem.ts";
import type { ServerConfig } from "../../../src/core/protocol/config.ts";
import { dropEarly, takeEarly } from "../boot.ts";
import { formatProblem } from "./format.ts";
import { observeServerTime } from "./server-time.ts";
import { session, tokens } from "./session.ts";

const options: ClientOptions = {
  baseUrl: location.origin,
  tokens,
  fetch: async (input, init) => {
    const early = init.method === "GET" ? await takeEarly(input.slice(location.origin.length)) : null;
    const sentAt = early?.sentAt ?? Date.now();
    const response = early?.response ?? (await fetch(input, init));
    observeServerTime(response.headers.get("date"), sentAt, early?.receivedAt ?? Date.now());
    return response;
  },
};

export const client = new SlipwayClient(options);
/** For callers that have something better to do than to repeat a call: it fails at once. */
export const impatientClient = new SlipwayClient({ ...options, retries: 0 });

export const queryClient = new QueryClient({
  defaultOptions: { queries: { staleTime: 10_000, retry: false, networkMode: "always", refetchOnReconnect: true } },
});

// What one person read is not shown to the next one on this device.
session.subscribe(() => {
  if (session.get().kind !== "none") return;
  queryClient.clear();
  dropEarly();
});

/** For `useQuery`: what this server offers. */
export const configQuery = {
  queryKey: ["config"],
  queryFn: ({ signal }: { signal: AbortSignal }) => client.offer({ signal }),
  staleTime: 60_000,
};

/** @returns what this server offers, which changes with its settings only. */
export const readConfig = (): Promise<ServerConfig> => queryClient.fetchQuery(configQuery);

/** The text of an error for people. */
export function problemText(thrown: unknown): string {
  if (thrown instanceof SlipwayProblem) return formatProblem(thrown);
  return thrown instanceof Error ? thrown.message : String(thrown);
}
