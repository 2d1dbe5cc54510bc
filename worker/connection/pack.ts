/**
 * The pack that a checkout begins with, from the broker: one request in place of git's own
 * conversation, and no process for it (decision 025).
 */
import { request } from "node:http";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { Unreachable } from "../workspace/workspace.ts";

export interface PackSource {
  /** Where the task repository is served, and the header that opens it. */
  readonly url: string;
  readonly authorization: string;
}

/**
 * Everything that leads to the commits, for `git index-pack --stdin`, which sees whether it came
 * whole. Rejects with Unreachable, or with the signal's reason.
 */
export function fetchPack(
  { url, authorization }: PackSource,
  commits: readonly string[],
  signal: AbortSignal,
): Promise<Readable> {
  const query = commits.map((sha) => `want=${sha}`).join("&");
  return new Promise((resolve, reject) => {
    const fail = (why: string): void => reject(signal.aborted ? signal.reason : unreachable(why));
    const asked = request(`${url}/pack?${query}`, { headers: { authorization }, agent: false, signal }, (answer) => {
      if (answer.statusCode === 200) return resolve(answer);
      const refusal = (said: string): void =>
        fail(`The requested URL returned error: ${answer.statusCode}. ${said.slice(0, 1_000)}`);
      text(answer).then(refusal, () => refusal(""));
    });
    asked.on("error", (error) => fail(`unable to access the task repository: ${error.message}`));
    asked.end();
  });
}

const unreachable = (output: string): Unreachable =>
  new Unreachable("the task repository could not be fetched", null, output);
