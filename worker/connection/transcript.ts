/** The agent's memory at the coordinator, as an agent uses it. */
import { AgentFailure, type Transcript, type TranscriptRecord } from "../agents/agent.ts";
import { RecordRejected, type CoordinatorLink } from "./link.ts";

type Line = Pick<CoordinatorLink, "transcript" | "append">;

/**
 * Reads what is there. Appends go out one after another.
 * @param last the number of the last record as far as it is known; 0 saves the reading.
 */
export async function openTranscript(link: Line, last: number, signal: AbortSignal): Promise<Transcript> {
  const records: TranscriptRecord[] = [];
  for (let more = last > 0; more;) {
    const page = await link.transcript(records.length, signal);
    records.push(...page.map(({ attempt, record }) => ({ attempt, data: record })));
    more = page.length > 0;
  }
  let next = records.length + 1;
  let before: Promise<void> = Promise.resolve();

  async function write(json: string): Promise<void> {
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
      before = before.then(() => write(json));
      before.catch(() => {});
      return before;
    },
  };
}
