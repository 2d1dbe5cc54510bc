/** The agent's transcript, stored at the coordinator. */
import { AgentFailure, type Transcript, type TranscriptRecord } from "../agents/agent.ts";
import { RecordRejected, type CoordinatorLink } from "./link.ts";

type TranscriptLink = Pick<CoordinatorLink, "transcript" | "append">;

/**
 * Reads all records. Appends are sent in the order of their calls, one at a time; after one that
 * failed, the later ones fail too.
 * @param last the number of the last known record; 0 = there is none, so nothing is read.
 */
export async function openTranscript(link: TranscriptLink, last: number, signal: AbortSignal): Promise<Transcript> {
  const records: TranscriptRecord[] = [];
  for (let more = last > 0; more;) {
    const page = await link.transcript(records.length, signal);
    records.push(...page.map(({ attempt, record }) => ({ attempt, data: record })));
    more = page.length > 0;
  }
  let next = records.length + 1;
  let lastAppend: Promise<void> = Promise.resolve();

  async function send(json: string): Promise<void> {
    try {
      await link.append(next, json, signal);
      next += 1;
    } catch (thrown) {
      if (thrown instanceof RecordRejected) throw new AgentFailure("agent_error", thrown.message);
      throw thrown;
    }
  }
  return {
    records,
    append(data) {
      const json = JSON.stringify(data);
      lastAppend = lastAppend.then(() => send(json));
      lastAppend.catch(() => {});
      return lastAppend;
    },
  };
}
