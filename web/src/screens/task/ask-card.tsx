/** An open question. The answer names the question, so a late tap never answers another one. */
import { useEffect, useState } from "react";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { ResultLine } from "../../components/act.tsx";
import { Icon } from "../../components/icon.tsx";
import { useAnswering } from "../../components/tasks/answering.ts";
import { Markdown } from "../../components/text/markdown.tsx";
import { unstored } from "../../lib/device/outbox.ts";
import { markDrafts, useDraft } from "../../lib/drafts.ts";
import { formatClock, formatUsd } from "../../lib/format.ts";
import { usePerson } from "../../lib/session.ts";
import { isOwn, mayDirect } from "../../lib/tasks/ownership.ts";
import { useStore } from "../../lib/store.ts";
import { ThreadCost } from "./thread/thread-cost.tsx";

const ANNOUNCE_MS = 100;

interface AskCardProps {
  readonly task: WireTask;
  readonly question: NonNullable<WireTask["question"]>;
}

export function AskCard({ task, question }: AskCardProps) {
  const person = usePerson();
  const isAnnounced = useAnnounced();
  const isBudget = question.id.startsWith("budget_");
  const owner = task.owner.email;
  const [title, more] = splitQuestion(question.question);
  return (
    <section className="ask st-awaiting" aria-labelledby="ask-title">
      <div className="ask-head">
        <Icon name={isBudget ? "coin" : "st-awaiting"} />
        <span>{isBudget ? budgetTitle(question.id) : isOwn(task, person) ? "Your move" : `${owner} is asked`}</span>
        <span className="end">{formatClock(Date.parse(question.askedAt))}</span>
      </div>
      <div className="ask-body">
        <div aria-live="polite">
          <div aria-hidden={!isAnnounced}>
            <h2 className="read" id="ask-title">
              <Markdown text={title} isInline />
            </h2>
            {more !== "" && (
              <div className="read">
                <Markdown text={more} />
              </div>
            )}
          </div>
        </div>
        {isBudget && (
          <dl className="facts">
            <dt>This task</dt>
            <dd>
              {formatUsd(task.usage.usd)}
              {task.budget?.usd === undefined ? "" : ` of ${formatUsd(task.budget.usd)}`}
            </dd>
            <ThreadCost task={task} />
          </dl>
        )}
        {mayDirect(task, person) ? (
          <AnswerForm task={task} question={question} />
        ) : (
          <p className="hint">Only {owner} and admins can answer.</p>
        )}
        {!isOwn(task, person) && mayDirect(task, person) && <p className="hint">You answer in the place of {owner}.</p>}
      </div>
    </section>
  );
}

/** The first line is the heading, and what an agent explains below it has Markdown of its own. */
function splitQuestion(text: string): [title: string, more: string] {
  const [title = "", ...more] = text.trim().split("\n");
  return [title.replace(/^#{1,6}\s+/, ""), more.join("\n").trim()];
}

/**
 * Screen readers announce what is added to a live region that was there before: the question is
 * theirs a moment after its card.
 */
function useAnnounced(): boolean {
  const [isAnnounced, setAnnounced] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setAnnounced(true), ANNOUNCE_MS);
    return () => clearTimeout(timer);
  }, []);
  return isAnnounced;
}

function AnswerForm({ task, question }: AskCardProps) {
  const draft = `answer.${question.id}`;
  const [own, setOwn] = useDraft(draft);
  const [choice, setChoice] = useState(question.options?.[0] ?? null);
  const { state, item, said, send } = useAnswering(task);
  const isStored = !useStore(unstored).has(item?.id ?? "");
  const text = own.trim() === "" ? choice : own;
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (text === null) return;
        const isSame = markDrafts(draft);
        void send(text).then((isSent) => isSent && isSame() && setOwn(""));
      }}
    >
      <AnswerOptions options={question.options ?? []} choice={own.trim() === "" ? choice : null} onPick={setChoice} />
      <div className="field">
        <label className="label" htmlFor="own-answer">
          {question.options === null ? "Answer" : "Or in your own words"}
        </label>
        <textarea
          className="input low"
          id="own-answer"
          rows={2}
          value={own}
          onChange={(event) => setOwn(event.target.value)}
        />
      </div>
      {state === "waiting" && (
        <p className="hint">
          {isStored ? "Kept on this device." : "Kept in this page only: leave the page open."} It is sent when the
          network is back, and applied once.
        </p>
      )}
      <ResultLine said={said} />
      <div className="acts">
        <button className="btn primary" type="submit" disabled={state !== "open" || text === null}>
          {state === "sending" ? "Sending…" : "Answer"}
        </button>
      </div>
    </form>
  );
}

function budgetTitle(id: string): string {
  if (id.startsWith("budget_minutes_")) return "Time used up";
  return id.startsWith("budget_thread_") ? "Budget of the thread used up" : "Budget used up";
}

interface AnswerOptionsProps {
  readonly options: readonly string[];
  /** Null while own words are given. */
  readonly choice: string | null;
  readonly onPick: (option: string) => void;
}

function AnswerOptions({ options, choice, onPick }: AnswerOptionsProps) {
  if (options.length === 0) return null;
  return (
    <fieldset className="options">
      <legend className="sr">Answers</legend>
      {options.map((option) => (
        <label key={option} className="option">
          <input type="radio" name="answer" checked={choice === option} onChange={() => onPick(option)} />
          <b>{option}</b>
        </label>
      ))}
    </fieldset>
  );
}
