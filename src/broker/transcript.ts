/**
 * The agent's transcript over the worker protocol. What is stored is the object as it was parsed,
 * written anew.
 */
import { SlipwayError } from "../core/error.ts";
import { TRANSCRIPT_PAGE_BYTES, RECORD_BYTES } from "../core/ports/transcripts.ts";
import { transcriptAppendSchema } from "../core/protocol/worker.ts";
import { parseBody, replyText, reply, parseWholeNumber, withJson, type WorkerCall } from "./worker-routes.ts";

/** The deepest object that a model may send as the input of a tool is deeper than any event. */
export const DEPTH = 200;
/** Escapes that come apart on the way (`\u00e9`) take more room than what is stored. */
const BODY_BYTES = 2 * RECORD_BYTES + TRANSCRIPT_PAGE_BYTES;

/** One page: pieces of JSON that were checked when they came are put together as they are. */
export async function serveTranscript({ workerApi, taskId, attempt, response, url }: WorkerCall): Promise<void> {
  const after = parseWholeNumber(url, "after", Number.MAX_SAFE_INTEGER);
  const records = await workerApi.transcript(taskId, attempt, after);
  const items = records.map((record) => `{"n":${record.n},"attempt":${record.attempt},"record":${record.json}}`);
  replyText(response, 200, `{"records":[${items.join(",")}]}`);
}

export async function serveAppend(call: WorkerCall): Promise<void> {
  const { workerApi, taskId, attempt, response } = call;
  await withJson(call, { bytes: BODY_BYTES, depth: DEPTH }, async (value) => {
    const { record, ...head } = parseBody(transcriptAppendSchema, value);
    if (head.attempt !== attempt) throw new SlipwayError("stale_attempt", "The record belongs to another attempt.");
    await workerApi.append(taskId, { ...head, json: JSON.stringify(record) });
    reply(response, 200, { last: head.n });
  });
}
