/** The pull request of a task, as its forge has it now, and the way to one for pushed work. */
import { taskAddress } from "../../../navigation/addresses.ts";
import { navigateFromHere } from "../../../navigation/history.tsx";
import { useQuery, type QueryClient } from "@tanstack/react-query";
import type { PullRequestView } from "../../../../../src/client/types.ts";
import { ResultLine, useAct } from "../../../components/act.tsx";
import { hasForge } from "../../../components/forms/pull-request-choice.tsx";
import { client, configQuery } from "../../../lib/client.ts";
import { putTask } from "../../../lib/tasks/task-list.ts";
import { useTaskView } from "../task-screen.tsx";
import type { WireTask } from "../../../../../src/core/protocol/rest.ts";

const REFRESH_MS = 60_000;
const ENDED = new Set(["merged", "closed"]);

const pullRequestQuery = (taskId: string) => ({
  queryKey: ["pull-request", taskId],
  queryFn: ({ signal }: { signal: AbortSignal }) => client.pullRequest(taskId, { signal }),
  staleTime: REFRESH_MS / 2,
});

export async function preparePullRequest(queries: QueryClient, { id, pullRequest }: WireTask): Promise<void> {
  if (pullRequest !== null) await queries.ensureQueryData(pullRequestQuery(id));
}

export function PullRequestFact() {
  const { id, pullRequest } = useTaskView().task;
  const now = useQuery({
    ...pullRequestQuery(id),
    enabled: pullRequest !== null,
    // While the page is in sight.
    refetchInterval: (query) => (ENDED.has(query.state.data?.state ?? "") ? false : REFRESH_MS),
  });
  if (pullRequest === null) return null;
  return (
    <>
      <dt>Pull request</dt>
      <dd>
        <a className="link" href={pullRequest.url} target="_blank" rel="noopener noreferrer">
          #{pullRequest.number}
        </a>{" "}
        {now.data?.state ?? pullRequest.state}
        {typeof now.data?.problem === "string" && <span className="note"> when it was opened. {now.data.problem}</span>}
      </dd>
      {now.data !== undefined && now.data.checks !== null && (
        <>
          <dt>Checks</dt>
          <dd>{describeChecks(now.data.checks)}</dd>
        </>
      )}
    </>
  );
}

function describeChecks({ passed, failed, running, failing }: NonNullable<PullRequestView["checks"]>): string {
  const parts = [
    failed === 0 ? "" : `${failed} failed (${failing.join(", ")})`,
    running === 0 ? "" : `${running} running`,
    passed === 0 ? "" : `${passed} passed`,
  ].filter((part) => part !== "");
  return parts.length === 0 ? "none" : parts.join(", ");
}

/** For work that was pushed without one: a retry of the push, which runs no agent. */
export function OpenPullRequestButton() {
  const { task } = useTaskView();
  const isPossible = task.state === "done" && task.outcome === "pushed" && task.pullRequest === null;
  const config = useQuery({ ...configQuery, enabled: isPossible });
  const { run, said, isBusy } = useAct();
  if (!isPossible || config.data === undefined || !hasForge(config.data, task.repo)) return null;
  const usual = config.data.pullRequests.default;

  const open = async (): Promise<void> => {
    const goOn = navigateFromHere();
    const next = await client.retry(task.id, { from: "push", pullRequest: usual === "none" ? "ready" : usual });
    putTask(next);
    await goOn(taskAddress(next.id));
  };

  return (
    <>
      <button className="btn line" type="button" disabled={isBusy} onClick={() => void run(open)}>
        Open a pull request
      </button>
      <ResultLine said={said} />
    </>
  );
}
