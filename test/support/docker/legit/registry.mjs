// A package registry of one package on this machine's loopback. `node registry.mjs <tarball> <port>`; ends with the file `stop`.
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";

const [file, port] = process.argv.slice(2);
const tarball = readFileSync(file);
const integrity = `sha512-${createHash("sha512").update(tarball).digest("base64")}`;
const version = {
  name: "answer",
  version: "1.0.0",
  gypfile: true,
  hasInstallScript: true,
  scripts: { install: "node-gyp rebuild" },
};
const dist = { tarball: `http://127.0.0.1:${port}/answer/-/answer-1.0.0.tgz`, integrity };
const packument = { name: "answer", "dist-tags": { latest: "1.0.0" }, versions: { "1.0.0": { ...version, dist } } };
createServer((request, response) => {
  if (request.url?.endsWith(".tgz")) return response.end(tarball);
  response.writeHead(request.url === "/answer" ? 200 : 404, { "content-type": "application/json" });
  response.end(JSON.stringify(packument));
}).listen(Number(port), "127.0.0.1");
setInterval(() => existsSync("/tmp/stop") && process.exit(), 200);
