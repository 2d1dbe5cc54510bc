/** The writer thread: receives batches of calls and posts their outcomes; null = close and exit. */
import { parentPort, workerData } from "node:worker_threads";
import { crashpointFrom } from "../../../core/lib/runtime/crashpoint.ts";
import { openReserve } from "./disk-reserve.ts";
import type { ThreadData, WriteCall } from "./messages.ts";
import { connect, createWriter } from "./writer.ts";

const data = workerData as ThreadData;
const port = parentPort;
if (port === null) throw new Error("this module must run in a worker thread");

const reserve = openReserve(data);
const writer = createWriter(connect(data), crashpointFrom(data.crash), reserve);

port.on("message", (calls: readonly WriteCall[] | null) => {
  if (calls !== null) return port.postMessage(writer.run(calls));
  writer.close();
  port.close();
});
