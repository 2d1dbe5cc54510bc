/**
 * Fetches the pack of a new checkout from the broker: one request in place of git's negotiation,
 * and no git process (decision 025).
 */
import { request } from "node:http";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { TaskFailure } from "../../src/core/failure.ts";
import { REPOSITORY_INCOMPLETE } from "../../src/core/protocol/worker.ts";
import { Unreachable } from "../workspace/workspace.ts";

export interface PackSource {
  /** The address of the task repository, and the value of the authorization header. */
  readonly url: string;
  readonly authorization: string;
}

/**
 * Returns a pack with the commits and all their ancestors. `git index-pack --stdin` detects an
 * incomplete one. Rejects with Unreachable, with TaskFailure `repo_incomplete`, or with the
 * signal's reason.
 */
export function fetchPack(
  { url, authorization }: PackSource,
  commits: readonly string[],
  signal: AbortSignal,
): Promise<Readable> {
  const query = commits.map((sha) => `want=${sha}`).join("&");
  return new Promise((resolve, reject) => {
    const fail = (output: string): void => reject(signal.aborted ? signal.reason : unreachable(output));
    const options = { headers: { authorization }, agent: false, signal };
    const outgoing = request(`${url}/pack?${query}`, options, (response) => {
      if (response.statusCode === 200) return resolve(response);
      // Unreachable recognises refusals by git's own wording.
      if (response.statusCode === REPOSITORY_INCOMPLETE) {
        response.resume();
        return reject(new TaskFailure("repo_incomplete", { detail: "The worker could not check out its base." }));
      }
      const refuse = (body: string): void =>
        fail(`The requested URL returned error: ${response.statusCode}. ${body.slice(0, 1_000)}`);
      text(response).then(refuse, () => refuse(""));
    });
    outgoing.on("error", (error) => fail(`unable to access the task repository: ${error.message}`));
    outgoing.end();
  });
}

const unreachable = (output: string): Unreachable =>
  new Unreachable("the task repository could not be fetched", null, output);
