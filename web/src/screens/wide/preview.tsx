/**
 * The row that is selected: what a person decides from, and the answer in place. It never takes
 * the focus by itself.
 */
import { useQuery } from "@tanstack/react-query";
import { Link } from "../../navigation/link.tsx";
import { taskAddress } from "../../navigation/addresses.ts";
import { Suspense, useEffect } from "react";
import { lazyComponent } from "../../lazy-component.tsx";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { Icon } from "../../components/icon.tsx";
import { Slip } from "../../components/lifecycle/slip.tsx";
import { StatePill } from "../../components/lifecycle/state-pill.tsx";
import { loadMarkdown, Markdown } from "../../components/text/markdown.tsx";
import { formatClock, formatElapsed, formatRepo } from "../../lib/format.ts";
import { usePerson } from "../../lib/session.ts";
import type { StateSpan } from "../../lib/log/outline.ts";
import { isOwn } from "../../lib/tasks/ownership.ts";
import { describeStep, getAppearance, isSettled } from "../../lib/tasks/task-view.ts";
import { onAnswerKeys } from "./answer-keys.ts";
import { readOutline, type Lately as LatelyItem } from "./outline-read.ts";

const AskCard = lazyComponent(async () => (await import("../task/ask-card.tsx")).AskCard);

interface PreviewProps {
  readonly task: WireTask;
  readonly now: number;
}

export function Preview({ task, now }: PreviewProps) {
  const { data, isPending } = useQuery({
    queryKey: ["outline", task.id, task.state, task.phase, task.todo?.done ?? 0],
    queryFn: async ({ signal }) => {
      const [outline] = await Promise.all([readOutline(task.id, signal), loadMarkdown().catch(() => undefined)]);
      return outline;
    },
    placeholderData: (previous) => previous,
  });
  useEffect(() => onAnswerKeys(), []);
  return (
    <>
      <PreviewHead task={task} />
      <Way task={task} now={now} spans={data?.spans ?? []} />
      {/* All of it comes at once: nothing is pushed down. */}
      <Suspense>{!isPending && <Details task={task} lately={data?.lately ?? []} />}</Suspense>
    </>
  );
}

function Details({ task, lately }: { task: WireTask; lately: readonly LatelyItem[] }) {
  const { question, failure, summary } = task;
  return (
    <>
      {question !== null && <AskCard key={question.id} task={task} question={question} />}
      {failure !== null && (
        <section aria-labelledby="pv-failure">
          <h3 className="over" id="pv-failure">
            {task.state === "failed" ? "Why it failed" : "Why it tries again"}
          </h3>
          <p className="read">{failure.message}</p>
          <p className="hint">{failure.advice}</p>
        </section>
      )}
      {isSettled(task) && summary !== null && (
        <section aria-labelledby="pv-result">
          <h3 className="over" id="pv-result">
            Result
          </h3>
          <div className="read">
            <Markdown text={summary} />
          </div>
        </section>
      )}
      <Lately items={lately} />
      {/* Named unlike the field of a new task, which is opened while this is on the screen. */}
      <section aria-labelledby="pv-asked">
        <h3 className="over" id="pv-asked">
          What was asked
        </h3>
        <p className="read prompt">{task.prompt}</p>
      </section>
    </>
  );
}

function PreviewHead({ task }: { task: WireTask }) {
  const person = usePerson();
  const from = isOwn(task, person) ? "you" : task.owner.email;
  return (
    <>
      <header className="top">
        <h2>{task.title}</h2>
        <Link className="btn quiet" to={taskAddress(task.id)}>
          Open <kbd className="kbd">Enter</kbd>
        </Link>
      </header>
      <p className="crumb">
        <span>
          {formatRepo(task.repo)} · {task.branch} · from {from}, {formatClock(Date.parse(task.createdAt))}
        </span>
      </p>
    </>
  );
}

interface WayProps extends PreviewProps {
  readonly spans: readonly StateSpan[];
}

function Way({ task, now, spans }: WayProps) {
  const appearance = getAppearance(task);
  const { word, rest } = describeStep(task);
  const since = spans.at(-1)?.from ?? Date.parse(task.updatedAt);
  const elapsed = isSettled(task) ? formatClock(since) : formatElapsed(now - since);
  const isAsking = appearance === "awaiting" || appearance === "parked";
  const detail = isAsking ? "waits for an answer" : [word === task.state ? "" : word, rest].filter(Boolean).join(" · ");
  const phrase = isSettled(task) ? `${task.state} at ${elapsed}` : `${task.state}, ${word} for ${elapsed}`;
  return (
    <section className="status" aria-label="State">
      <div className={`status-line st-${appearance}`}>
        <StatePill appearance={appearance} word={task.state} />
        <span className="detail">{detail}</span>
      </div>
      <Slip
        appearance={appearance}
        phrase={phrase}
        detail={isSettled(task) || word === task.state ? elapsed : `${word} ${elapsed}`}
        spans={spans}
        now={now}
      />
    </section>
  );
}

function Lately({ items }: { items: readonly LatelyItem[] }) {
  if (items.length === 0) return null;
  return (
    <section aria-labelledby="pv-lately">
      <h3 className="over" id="pv-lately">
        Lately
      </h3>
      <ul className="checks">
        {items.map(({ text, at }) => (
          <li key={text} className={at === null ? "st-running" : "st-done"}>
            <Icon name={at === null ? "st-running" : "check"} />
            <span>{text}</span>
            <span className="end">{at === null ? "now" : formatClock(at)}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}
