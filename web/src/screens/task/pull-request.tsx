/** The pull request of a task, in the list of facts of its result: as its forge has it now. */
import { useQuery } from "@tanstack/react-query";
import type { PullRequestView } from "../../../../src/client/types.ts";
import { client } from "../../lib/client.ts";
import { useTaskView } from "./task-screen.tsx";

const REFRESH_MS = 60_000;
const ENDED = new Set(["merged", "closed"]);

export function PullRequestFact() {
  const { id, pullRequest } = useTaskView().task;
  const now = useQuery({
    queryKey: ["pull-request", id],
    queryFn: ({ signal }) => client.pullRequest(id, { signal }),
    enabled: pullRequest !== null,
    staleTime: REFRESH_MS / 2,
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
