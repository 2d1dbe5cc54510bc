import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openGuardedHttp, type GuardedHttp } from "../../../src/git/forges/guarded-http.ts";

let server: Server;
let paths: string[];
let port: number;
const opened: GuardedHttp[] = [];
beforeEach(async () => {
  paths = [];
  server = createServer((request, response) => {
    paths.push(request.url ?? "");
    if (request.url === "/moved") response.writeHead(302, { location: "/elsewhere" }).end("there");
    else response.writeHead(200, { "X-Name": "one" }).end("fine");
  });
  await new Promise<void>((resolve) => server.listen(0, resolve));
  ({ port } = server.address() as AddressInfo);
});
afterEach(async () => {
  for (const http of opened.splice(0)) await http.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});
const get = (url: string, isTrusted: boolean) => {
  const http = openGuardedHttp({ isTrusted });
  opened.push(http);
  return http.send({ method: "GET", url, headers: {} }, new AbortController().signal);
};

it.each(["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"])(
  "[S5] %s is private: it is connected to only where an operator trusts the forge",
  async (host) => {
    await expect(get(`http://${host}:${port}/`, false)).rejects.toThrow(/private network.*SLIPWAY_TRUSTED_REPO_HOSTS/);
    expect(paths).toEqual([]);
  },
);

it("a trusted host answers, with the names of headers in lower case", async () => {
  const reply = await get(`http://localhost:${port}/`, true);
  expect(reply).toMatchObject({ status: 200, text: "fine" });
  expect(reply.headers["x-name"]).toBe("one");
});

it("a redirect is an answer: it is not followed", async () => {
  expect(await get(`http://localhost:${port}/moved`, true)).toMatchObject({ status: 302, text: "there" });
  expect(paths).toEqual(["/moved"]);
});
