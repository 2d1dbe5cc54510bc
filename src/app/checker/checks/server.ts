/** Asks the server that runs on this data folder whether its boot is complete. */
import { join } from "node:path";
import { errorMessage } from "../../../core/error.ts";
import { readIfExists } from "../../../core/lib/runtime/replace-file.ts";
import { overviewSchema } from "../../../core/protocol/rest.ts";
import { isFolderLocked } from "../../../store/sqlite/lock.ts";
import { readServerUrl } from "../../data-folder/data-folder.ts";

const ANSWER_MS = 5_000;

/** What is read of an overview: a running server may be of another version. */
const answerSchema = overviewSchema.pick({ boot: true, queue: true }).loose();

/** @returns null when no server runs. */
export async function checkServer(dir: string): Promise<{ readonly ok: boolean; readonly detail: string } | null> {
  const url = readServerUrl(dir);
  const token = readIfExists(join(dir, "operator.token"))?.trim() ?? "";
  if (url === null || !isFolderLocked(dir)) return null;
  try {
    const signal = AbortSignal.timeout(ANSWER_MS);
    const response = await fetch(`${url}/v1/ops/overview`, { headers: { authorization: `Bearer ${token}` }, signal });
    if (!response.ok) return { ok: false, detail: `${url} answers ${response.status}: see its log` };
    const { boot, queue } = answerSchema.parse(await response.json());
    const problems = boot.map(({ part, reason }) => `${part}: ${reason}`);
    if (queue.store === "failing") problems.push(`claims: ${queue.reason ?? "they cannot be stored"}`);
    if (problems.length === 0) return { ok: true, detail: `${url} is ready` };
    return { ok: false, detail: `${url} is not whole. ${problems.join(" ")}` };
  } catch (error) {
    return { ok: false, detail: `${url} does not answer (${errorMessage(error)}): see its log` };
  }
}
