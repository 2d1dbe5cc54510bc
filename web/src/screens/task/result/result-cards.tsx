/**
 * The end of a task: what came out, or what went wrong and what to do. Loaded when a task has ended
 * (first-view.tsx), with what it asks the server for.
 */
import type { QueryClient } from "@tanstack/react-query";
import { Link } from "../../../navigation/link.tsx";
import { taskAddress } from "../../../navigation/addresses.ts";
import type { WireTask } from "../../../../../src/core/protocol/rest.ts";
import { Icon } from "../../../components/icon.tsx";
import { Markdown } from "../../../components/text/markdown.tsx";
import { formatClock, formatUsd } from "../../../lib/format.ts";
import { usePerson } from "../../../lib/session.ts";
import { mayDirect } from "../../../lib/tasks/ownership.ts";
import { RetryButton } from "../retry/retry-button.tsx";
import { StopCard } from "../stop/stop-card.tsx";
import { ThreadCost } from "../thread/thread-cost.tsx";
import { useChanges, useTaskView } from "../task-screen.tsx";
import { prepareExpiry } from "./expiry.tsx";
import { OpenPullRequestButton, preparePullRequest, PullRequestFact } from "./pull-request.tsx";
import { LaterFacts, savedQuery } from "./saved.tsx";
import { receiptQuery } from "./stop-receipt.tsx";

/** Reads what the cards ask for, so that they are drawn once. It fails as the cards would. */
export async function prepareResult(queries: QueryClient, task: WireTask): Promise<void> {
  await Promise.allSettled([
    queries.ensureQueryData(savedQuery(task.id)),
    prepareExpiry(queries, task.id),
    preparePullRequest(queries, task),
    ...(task.state === "cancelled" ? [queries.ensureQueryData(receiptQuery(task))] : []),
  ]);
}

export function ResultCards() {
  const { task } = useTaskView();
  const person = usePerson();
  const changes = useChanges();
  return (
    <div className="stack">
      {task.state === "failed" && <Failure />}
      {task.state === "cancelled" && <StopCard />}
      {task.summary !== null && task.summary !== "" && (
        <section className="read" aria-label="Summary">
          <Markdown text={task.summary} />
        </section>
      )}
      <div className="acts">
        {changes !== null && changes.files > 0 && (
          <Link className="btn primary" to={taskAddress(task.id, "changes")} replace>
            <Icon name="diff" />
            Changes{" "}
            <span className="num">
              +{changes.additions} −{changes.deletions}
            </span>
          </Link>
        )}
        {mayDirect(task, person) && (
          <>
            <OpenPullRequestButton />
            <RetryButton task={task} />
          </>
        )}
      </div>
      <ResultFacts />
    </div>
  );
}

function Failure() {
  const { task } = useTaskView();
  const { failure } = task;
  if (failure === null) return null;
  return (
    <>
      <section className="card tinted st-failed" aria-labelledby="failure-title">
        <div className="card-head">
          <Icon name="st-failed" className="state-ic" />
          <div>
            <h2 id="failure-title">{failure.message}</h2>
            <p className="note">
              <code>{failure.code}</code> · attempt {task.attempt} of {task.maxAttempts}
            </p>
          </div>
        </div>
      </section>
      {failure.advice !== "" && (
        <section className="card" aria-labelledby="advice-title">
          <h2 id="advice-title">What to do</h2>
          <div className="read">
            <Markdown text={failure.advice} />
          </div>
        </section>
      )}
      {failure.evidence !== null && failure.evidence !== undefined && failure.evidence !== "" && (
        <section className="card flush" aria-label="Evidence">
          <details className="tool">
            <summary>
              <Icon name="term" small />
              <b>Evidence</b>
              <span className="arg">{failure.evidence.split("\n", 1)[0]}</span>
            </summary>
            <pre className="out" tabIndex={0} role="region" aria-label="Evidence">
              {failure.evidence}
            </pre>
          </details>
        </section>
      )}
    </>
  );
}

function ResultFacts() {
  const { task, log } = useTaskView();
  const { saved } = log.conversation;
  const isPushed = task.outcome === "pushed";
  return (
    <section className="card" aria-label="Result">
      <dl className="facts">
        <dt>Branch</dt>
        <dd>
          <code>{task.branch}</code>
          {isPushed && task.headSha !== null ? (
            <>
              {" "}
              at <code>{task.headSha.slice(0, 7)}</code>
            </>
          ) : (
            ", not pushed"
          )}
        </dd>
        {task.state === "failed" && (
          <>
            <dt>Work saved</dt>
            <dd>
              {saved === null ? (
                "nothing"
              ) : (
                <>
                  <code>{saved.sha.slice(0, 7)}</code> at {formatClock(saved.at)}, +{saved.additions} −{saved.deletions}
                </>
              )}
            </dd>
          </>
        )}
        {task.base !== null && (
          <>
            <dt>Base</dt>
            <dd>
              <code>{task.base}</code>
              {task.baseSha !== null && (
                <>
                  {" "}
                  at <code>{task.baseSha.slice(0, 7)}</code>
                </>
              )}
            </dd>
          </>
        )}
        <PullRequestFact />
        <dt>Cost</dt>
        <dd>{formatUsd(task.usage.usd)}</dd>
        <ThreadCost task={task} />
        <LaterFacts taskId={task.id} />
      </dl>
    </section>
  );
}
