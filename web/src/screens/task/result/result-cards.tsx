/** The end of a task: what came out, or what went wrong and what to do. */
import { Link } from "@tanstack/react-router";
import { lazy, Suspense } from "react";
import { Icon } from "../../../components/icon.tsx";
import { Markdown } from "../../../components/text/markdown.tsx";
import { formatClock, formatUsd } from "../../../lib/format.ts";
import { usePerson } from "../../../lib/session.ts";
import { mayDirect } from "../../../lib/tasks/ownership.ts";
import { RetryButton } from "../retry/retry-button.tsx";
import { ThreadCost } from "../thread/thread-cost.tsx";
import { useTaskView } from "../task-screen.tsx";

// These show what is asked for when the task is opened, later than the rest in any case.
const PullRequestFact = lazy(async () => ({ default: (await import("./pull-request.tsx")).PullRequestFact }));
const LaterFacts = lazy(async () => ({ default: (await import("./saved.tsx")).LaterFacts }));
const OpenPullRequestButton = lazy(async () => ({
  default: (await import("./pull-request.tsx")).OpenPullRequestButton,
}));

const Stages = lazy(async () => ({ default: (await import("../stop/stop-card.tsx")).StopCard }));

/** Few tasks are stopped. */
export const StopCard = () => (
  <Suspense>
    <Stages />
  </Suspense>
);

export function ResultCards() {
  const { task, log } = useTaskView();
  const person = usePerson();
  const { changes } = log.conversation;
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
          <Link className="btn primary" to="/tasks/$id/changes" params={{ id: task.id }} replace>
            <Icon name="diff" />
            Changes{" "}
            <span className="num">
              +{changes.additions} −{changes.deletions}
            </span>
          </Link>
        )}
        {mayDirect(task, person) && (
          <>
            <Suspense fallback={null}>
              <OpenPullRequestButton />
            </Suspense>
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
        <Suspense fallback={null}>
          <PullRequestFact />
        </Suspense>
        <dt>Cost</dt>
        <dd>{formatUsd(task.usage.usd)}</dd>
        <ThreadCost task={task} />
        <Suspense fallback={null}>
          <LaterFacts taskId={task.id} />
        </Suspense>
      </dl>
    </section>
  );
}
