/**
 * The thread that writes: batches of calls come in, their outcomes go out; null = close and end.
 */
import { parentPort, workerData } from "node:worker_threads";
import { crashpointFrom } from "../../../core/lib/crashpoint.ts";
import { connect, createWriter, type WriteCall, type Connecting } from "./writer.ts";

/** What the thread is started with. `crash`: src/core/lib/crashpoint.ts. */
export interface ThreadData extends Connecting {
  readonly crash: string | undefined;
}

const data = workerData as ThreadData;
const port = parentPort;
if (port === null) throw new Error("this file is the start of a thread");

const writer = createWriter(connect(data), crashpointFrom(data.crash));

port.on("message", (calls: readonly WriteCall[] | null) => {
  if (calls !== null) return port.postMessage(writer.run(calls));
  writer.close();
  port.close();
});
