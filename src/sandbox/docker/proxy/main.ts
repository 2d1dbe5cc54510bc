/**
 * The program of the engine proxy: `node dist/engine-proxy.mjs <socket to listen on>`. It alone has
 * the engine's socket (docs/deploy). SLIPWAY_DATA_DIR names the installation whose calls it passes.
 */
import { chmodSync, rmSync } from "node:fs";
import { join } from "node:path";
import { deriveInstanceId } from "../../../core/lib/runtime/instance-id.ts";
import { createEngineProxy } from "./proxy.ts";

const [listenOn] = process.argv.slice(2);
const dataDir = process.env["SLIPWAY_DATA_DIR"];
if (listenOn === undefined || dataDir === undefined) {
  process.stderr.write("Name the socket to listen on, and the data folder in SLIPWAY_DATA_DIR.\n");
  process.exit(2);
}
const server = createEngineProxy({
  engine: "/var/run/docker.sock",
  instance: deriveInstanceId(dataDir),
  sockets: join(dataDir, "run"),
  report: (refusal) => process.stdout.write(`refused: ${refusal}\n`),
});
// What an earlier process left.
rmSync(listenOn, { force: true });
server.listen(listenOn, () => {
  // The folder decides who reaches it.
  chmodSync(listenOn, 0o666);
  process.stdout.write(`listening on ${listenOn} for ${dataDir}\n`);
});
process.once("SIGTERM", () => process.exit(0));
