/** One block of the conversation. */
import { memo, Suspense, useState } from "react";
import { lazyComponent } from "../../lazy-component.tsx";
import { AttachedList } from "../../components/forms/attachments.tsx";
import { Ansi } from "../../components/text/ansi.tsx";
import { Icon } from "../../components/icon.tsx";
import { Markdown } from "../../components/text/markdown.tsx";
import type { Block, Step } from "../../lib/log/block.ts";
import { formatClock, formatDuration, formatElapsed, pluralize } from "../../lib/format.ts";
import { useNow } from "../../lib/server-time.ts";
import { usePerson } from "../../lib/session.ts";
import { mayDirect, nameOf } from "../../lib/tasks/ownership.ts";
import { isSettled } from "../../lib/tasks/task-view.ts";
import { useTaskView } from "./task-screen.tsx";

type Kind<K extends Block["kind"]> = Extract<Block, { kind: K }>;

export const BlockView = memo(function BlockView({ block }: { block: Block }) {
  switch (block.kind) {
    case "person":
      return <PersonMessage block={block} />;
    case "text":
      return (
        <div className="read">
          <Markdown text={block.text} />
        </div>
      );
    case "steps":
      return <Steps block={block} />;
    case "question":
      return <Answered block={block} />;
    case "check":
      return <Check block={block} />;
    case "line":
      return (
        <p
          className={`event-line st-${block.level === "error" ? "failed" : block.level === "warning" ? "retrying" : "queued"}`}
        >
          <Icon name={block.level === "info" ? "info" : "warn"} small />
          <span>{block.text}</span>
          <span className="end">{formatClock(block.at)}</span>
        </p>
      );
    case "commits":
      return <Commits block={block} />;
    case "tool":
      return <ToolRow block={block} isLast />;
    case "thought":
      return null;
    default:
      return block satisfies never;
  }
});

function Commits({ block: { at, isRewritten, commits, count } }: { block: Kind<"commits"> }) {
  const short = (sha: string) => <code>{sha.slice(0, 7)}</code>;
  return (
    <section className="commits" aria-label="Commits by people">
      <h3>
        {isRewritten ? "People rewrote the branch" : `People pushed ${pluralize(count, "commit")} here`}{" "}
        <span className="note">{formatClock(at)}</span>
      </h3>
      <ul>
        {commits.map(({ sha, author, title }) => (
          <li key={sha}>
            {short(sha)}
            <bdi className="grow">{title}</bdi>
            <bdi className="muted">{author}</bdi>
          </li>
        ))}
      </ul>
      <p>The work begins from {short(commits[0]?.sha ?? "")}.</p>
    </section>
  );
}

/** What opens with a tap is loaded with the first tap. */
const ToolDetail = lazyComponent(async () => (await import("./output.tsx")).ToolDetail);
const StepLog = lazyComponent(async () => (await import("./output.tsx")).StepLog);

/** Of a message that waits for the agent. */
const TakeBack = lazyComponent(async () => (await import("./composer/take-back.tsx")).TakeBack);

const STATUS_TEXT: Readonly<Record<string, string>> = {
  queued: "the server has it",
  delivered: "delivered",
  withdrawn: "taken back",
  moved: "in the follow-up task",
  undelivered: "not delivered",
};

function PersonMessage({ block }: { block: Kind<"person"> }) {
  const { task, log } = useTaskView();
  const person = usePerson();
  const status = block.id === null ? undefined : log.conversation.statuses.get(block.id);
  const isQueued = status === "queued" && !isSettled(task) && mayDirect(task, person);
  // It keeps its place when the agent reads the message: what is below does not move.
  const [wasQueued] = useState(isQueued);
  return (
    <article className="said">
      <p className="who">
        <b>{nameOf(block.by, task, person)}</b>{" "}
        <span>
          {formatClock(block.at)}
          {status === undefined ? "" : ` · ${STATUS_TEXT[status] ?? status}`}
        </span>
      </p>
      <p className="read prompt">{block.text}</p>
      <AttachedList attachments={block.attachments} />
      {wasQueued && (
        <Suspense fallback={<p className="acts" />}>
          <TakeBack block={block} isQueued={isQueued} />
        </Suspense>
      )}
    </article>
  );
}

function Steps({ block }: { block: Kind<"steps"> }) {
  const open = block.steps.find((step) => step.endedAt === null);
  const now = useNow(open !== undefined);
  const last = block.steps.at(-1);
  const total = (last?.endedAt ?? now) - block.at;
  return (
    <details className="fold" open={open !== undefined || undefined}>
      <summary>
        <Icon name="chev-r" small className="turn" />
        <b>{open === undefined ? `Ready in ${formatDuration(total)}` : `Preparing, ${formatElapsed(total)}`}</b>
        <span>
          {pluralize(block.steps.length, "step")}
          {block.attempt > 1 ? `, attempt ${block.attempt}` : ""}
        </span>
        <span className="end">{formatClock(block.at)}</span>
      </summary>
      <div className="inner">
        <ol className="steps">
          {block.steps.map((step) => (
            <StepRow key={step.name} step={step} now={now} />
          ))}
        </ol>
      </div>
    </details>
  );
}

/** One line; where the step printed something, it opens to that. */
function StepRow({ step, now }: { step: Step; now: number }) {
  const { name, startedAt, endedAt, detail, log } = step;
  const [isShown, setShown] = useState(false);
  const isOpen = endedAt === null;
  const line = (
    <>
      <Icon name={isOpen ? "st-running" : "check"} small />
      <span>
        {name} {detail !== null && <small>{detail}</small>}
      </span>
      <span className="end" key={isOpen ? "elapsed" : "took"}>
        {isOpen ? formatElapsed(now - startedAt) : formatDuration(endedAt - startedAt)}
      </span>
    </>
  );
  return (
    <li className={isOpen ? "st-running" : "st-done"}>
      {log === "" ? (
        <div>{line}</div>
      ) : (
        <details onToggle={(event) => setShown(event.currentTarget.open)}>
          <summary>
            {line}
            <Icon name="chev-r" small className="turn" />
          </summary>
          {isShown && (
            <Suspense>
              <StepLog step={step} />
            </Suspense>
          )}
        </details>
      )}
    </li>
  );
}

function Answered({ block }: { block: Kind<"question"> }) {
  const { task } = useTaskView();
  const person = usePerson();
  const { answer } = block;
  if (answer === null)
    return isSettled(task) ? (
      <p className="event-line st-queued">
        <Icon name="info" small />
        <span>
          Expired without an answer: <Markdown text={block.question} isInline />
        </span>
      </p>
    ) : null;
  const { by } = answer;
  return (
    <div className="said st-done">
      <p className="who">
        <Icon name="check" small />
        <b>{by === null || by === person?.id ? "Answered" : `Answered by ${nameOf(by, task, person)}`}</b>{" "}
        <span>{formatClock(answer.at)}</span>
      </p>
      <p>
        <Markdown text={block.question} isInline /> → <b>{answer.text}</b>
      </p>
    </div>
  );
}

function Check({ block }: { block: Kind<"check"> }) {
  const isGood = block.exitCode === 0;
  return (
    <div className="tools">
      <details className={`tool st-${isGood ? "done" : "failed"}`}>
        <summary>
          <Icon name={isGood ? "check" : "warn"} small />
          <b>Check</b>
          <span className="arg">{block.command}</span>
          <span className="end">
            {!isGood && <span className="bad">exit {block.exitCode ?? "unknown"}</span>} {formatDuration(block.ms)}
          </span>
        </summary>
        <pre className="out" tabIndex={0} role="region" aria-label="Output of the check">
          <Ansi text={block.tail} />
        </pre>
      </details>
    </div>
  );
}

const TOOL_ICONS: Readonly<Record<string, string>> = {
  bash: "term",
  read: "read",
  write: "pencil",
  edit: "pencil",
  glob: "search",
  grep: "search",
};
const ARGUMENTS = ["command", "path", "file_path", "pattern", "query", "url"];

function describeInput(input: Readonly<Record<string, unknown>>): string {
  const main = ARGUMENTS.map((key) => input[key]).find((value) => typeof value === "string");
  return String(main ?? Object.values(input).find((value) => typeof value === "string") ?? "");
}

/** Lines of the output of a tool that are shown without a tap, once it runs for a while. */
const TAIL_LINES = 3;
const TAIL_AFTER_MS = 1_000;

/**
 * Whether the end of the output stands below the row. It begins only while nothing is below the
 * row, has one height, and stays when the tool ended: rows below keep their place.
 */
function useTail(block: Kind<"tool">, isLast: boolean, now: number): boolean {
  const [isShown, setShown] = useState(false);
  const begins = isLast && block.result === null && block.live.trim() !== "" && now - block.at >= TAIL_AFTER_MS;
  if (begins && !isShown) setShown(true);
  return isShown;
}

/** One line that opens to the input and the output. Its content is made when it is opened. */
export const ToolRow = memo(function ToolRow({ block, isLast }: { block: Kind<"tool">; isLast: boolean }) {
  const [isOpen, setOpen] = useState(false);
  const isRunning = block.result === null;
  const now = useNow(isRunning);
  const { result } = block;
  const ended = result === null || result === "lost" ? null : result;
  const isTailed = useTail(block, isLast, now) && !isOpen;
  const isBad = ended !== null && ended.exitCode !== null && ended.exitCode !== 0;
  return (
    <>
      <details className="tool" onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary>
          <Icon name={TOOL_ICONS[block.name] ?? "box"} small />
          <b>{block.name}</b>
          <span className="arg">{describeInput(block.input)}</span>
          <span className="end">
            {isBad && <span className="bad">exit {ended.exitCode} </span>}
            {isRunning ? formatElapsed(now - block.at) : ended === null ? "did not finish" : formatDuration(ended.ms)}
          </span>
        </summary>
        {isOpen && (
          <Suspense>
            <ToolDetail block={block} />
          </Suspense>
        )}
      </details>
      {isTailed && (
        <pre className="out tail" aria-live="off" aria-label={`The last output of ${block.name}`}>
          <Ansi text={block.live.trimEnd().split("\n").slice(-TAIL_LINES).join("\n")} />
        </pre>
      )}
    </>
  );
});
