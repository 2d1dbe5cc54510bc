/**
 * The thread that writes: batches of calls come in, their outcomes go out; null = close and end.
 */
import { parentPort, workerData } from "node:worker_threads";
import { crashpointFrom } from "../../../core/lib/crashpoint.ts";
import type { ThreadData, WriteCall } from "./messages.ts";
import { connect, createWriter } from "./writer.ts";

const data = workerData as ThreadData;
const port = parentPort;
if (port === null) throw new Error("this file is the start of a thread");

const writer = createWriter(connect(data), crashpointFrom(data.crash));

port.on("message", (calls: readonly WriteCall[] | null) => {
  if (calls !== null) return port.postMessage(writer.run(calls));
  writer.close();
  port.close();
});
