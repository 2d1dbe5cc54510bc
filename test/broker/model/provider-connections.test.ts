import { createServer } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { expect, it } from "vitest";
import { createProviderAgent, ProviderClient } from "../../../src/broker/model/provider-request.ts";
import { DEFAULT_RULES } from "../../../src/broker/model/request/policy.ts";

it("[G2] an idle connection to the provider is used again, and closed here before a provider closes it", async () => {
  const connections: Socket[] = [];
  let closed = 0;
  const server = createServer({ keepAliveTimeout: 600_000 }, (_request, response) => response.end("{}"));
  server.on("connection", (socket: Socket) => {
    connections.push(socket);
    socket.on("close", () => (closed += 1));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const agent = createProviderAgent(baseUrl);
  const client = new ProviderClient({ baseUrl, apiKey: "key", rules: DEFAULT_RULES, agent });
  const ask = async (): Promise<void> => {
    const answer = await client.request("/v1/models", {}, null, new AbortController().signal);
    for await (const _ of answer);
  };
  try {
    await ask();
    await ask();
    expect(connections.length).toBe(1);
    await expect.poll(() => closed).toBe(1);
    await ask();
    expect(connections.length).toBe(2);
  } finally {
    agent.destroy();
    server.closeAllConnections();
    server.close();
  }
});
