/** The conversation: what was asked, what the agent wrote and did, and the composer. */
import { AttachedList } from "../../components/forms/attachments.tsx";
import { lazy, Suspense, useEffect, useMemo, useRef, useState } from "react";
import { WindowVirtualizer, type WindowVirtualizerHandle } from "virtua";
import { Icon } from "../../components/icon.tsx";
import { Markdown } from "../../components/text/markdown.tsx";
import { isWorthAsking } from "../../lib/device/push-support.ts";
import { toSections, type Block, type Section } from "../../lib/log/conversation.ts";
import type { LogView } from "../../lib/log/event-log.ts";
import { formatClock, formatDuration, pluralize } from "../../lib/format.ts";
import { usePerson } from "../../lib/session.ts";
import { isOwn, mayDirect } from "../../lib/tasks/ownership.ts";
import { isSettled } from "../../lib/tasks/task-view.ts";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { BlockView, ToolRow } from "./blocks.tsx";
import { Composer } from "./composer/composer.tsx";
import { ResultCards, StopCard } from "./result/result-cards.tsx";
import { ThreadFold } from "./thread/thread-fold.tsx";
import { useTaskView } from "./task-screen.tsx";

/** Stands at the end: it may come after what is read. */
const OutboxCard = lazy(async () => ({
  default: (await import("../../components/device/outbox-card.tsx")).OutboxCard,
}));
/** Parts of a few tasks only. */
const AskCard = lazy(async () => ({ default: (await import("./ask-card.tsx")).AskCard }));
const PushOffer = lazy(async () => ({
  default: (await import("../../components/device/push-offer.tsx")).PushOffer,
}));

export function ConversationView() {
  const { task } = useTaskView();
  return <Talk key={task.id} />;
}

function Talk() {
  const { task, log } = useTaskView();
  const items = useItems(log);
  const list = useRef<WindowVirtualizerHandle>(null);
  const person = usePerson();
  const ended = isSettled(task);
  const isEndShown = useAfterLog(ended ? "end" : null);
  const isUnfolded = useUnfolded(items.at(-1)?.key ?? null, log.connection === "connecting" || ended);
  // The result of a task that ends while it is watched comes last: nothing on the screen moves.
  const [isOverAtOpen] = useState(ended);
  const [isOffered] = useState(isWorthAsking);
  useFollow(log.seq, log.streaming?.text.length ?? 0, !ended);
  return (
    <>
      <section className="talk" aria-label="Conversation">
        {ended && isOverAtOpen && <ResultCards />}
        <ThreadFold />
        <article className="said">
          <p className="who">
            <b>Prompt</b>{" "}
            <span>
              {isOwn(task, person) ? "" : `of ${task.owner.email} · `}
              {formatClock(Date.parse(task.createdAt))}
            </span>
          </p>
          <p className="read prompt">{task.prompt}</p>
          <AttachedList attachments={task.attachments ?? []} />
        </article>
        <WindowVirtualizer ref={list} bufferSize={800} data={items}>
          {(item, i) => (
            <div key={item.key} className="talk-item">
              {item.kind === "writing" ? (
                <Writing text={item.text} />
              ) : (
                <SectionView
                  section={item}
                  isLast={i === items.length - 1 && !ended}
                  isUnfolded={isUnfolded(item.key)}
                />
              )}
            </div>
          )}
        </WindowVirtualizer>
        {isEndShown && !isOverAtOpen && <ResultCards />}
        {isOffered && (
          <Suspense>
            <PushOffer />
          </Suspense>
        )}
        <Suspense>
          <OutboxCard taskId={task.id} />
        </Suspense>
        {task.state === "cancelling" && <StopCard />}
        <Asked />
        {log.problem !== null && <p className="banner st-failed">{log.problem}</p>}
      </section>
      {mayDirect(task, person) ? <Composer /> : <NotYours task={task} />}
    </>
  );
}

/** What the list shows: the sections, and last the text that is being written. */
type Item = Section | { readonly kind: "writing"; readonly key: string; readonly text: string };

function useItems({ conversation, streaming }: LogView): readonly Item[] {
  const sections = useMemo(() => toSections(conversation.blocks), [conversation.blocks]);
  if (streaming === null) return sections;
  return [...sections, { kind: "writing", key: `writing ${streaming.id}`, text: streaming.text }];
}

/**
 * Work that was watched stays unfolded until the screen is left: what is read does not go away.
 *
 * @param last the key of the last item. @param isPast while a log comes in, and after its end.
 */
function useUnfolded(last: string | null, isPast: boolean): (key: string) => boolean {
  const watched = useRef(new Set<string>());
  useEffect(() => {
    if (last !== null && !isPast) watched.current.add(last);
  }, [last, isPast]);
  return (key) => watched.current.has(key);
}

/**
 * Whether what stands after the conversation can be shown: the task may be read before the last
 * events of its log come in, which would push it down. Once shown it stays, and without a
 * connection nothing is waited for.
 *
 * @param what names it; null = there is nothing.
 */
function useAfterLog(what: string | null): boolean {
  const { task, log } = useTaskView();
  const [shown, setShown] = useState<string | null>(null);
  const comesIn = log.seq < task.seq && log.connection !== "lost" && log.problem === null;
  if (what !== null && what !== shown && !comesIn) setShown(what);
  return what !== null && what === shown;
}

function Asked() {
  const { task } = useTaskView();
  const isShown = useAfterLog(task.question?.id ?? null);
  if (task.question === null || !isShown) return null;
  return (
    <Suspense>
      <AskCard key={task.question.id} task={task} question={task.question} />
    </Suspense>
  );
}

function Writing({ text }: { text: string }) {
  return (
    <div className="read" aria-live="off">
      <Markdown text={text} />
      <span className="caret" />
    </div>
  );
}

/** In the place of the composer. */
function NotYours({ task }: { task: WireTask }) {
  return (
    <p className="hint talk-end">
      {task.owner.email} directs this task. As an operator you can look{isSettled(task) ? "." : ", and stop it."}
    </p>
  );
}

interface SectionViewProps {
  readonly section: Section;
  readonly isLast: boolean;
  readonly isUnfolded: boolean;
}

function SectionView({ section, isLast, isUnfolded }: SectionViewProps) {
  if (section.kind === "block") return <BlockView block={section.block} />;
  const rows = <WorkRows blocks={section.blocks} />;
  if (isLast || isUnfolded) return rows;
  const { tools, thoughts } = section;
  const parts = [tools > 0 ? pluralize(tools, "tool") : "", thoughts > 0 ? pluralize(thoughts, "thought") : ""];
  return (
    <details className="fold">
      <summary>
        <Icon name="chev-r" small className="turn" />
        <b>Worked {formatDuration(section.ms)}</b>
        <span>{parts.filter((part) => part !== "").join(", ")}</span>
      </summary>
      <div className="inner">{rows}</div>
    </details>
  );
}

function WorkRows({ blocks }: { blocks: readonly Block[] }) {
  return (
    <div className="tools">
      {blocks.map((block, i) =>
        block.kind === "tool" ? (
          <ToolRow key={block.key} block={block} isLast={i === blocks.length - 1} />
        ) : (
          <details key={block.key} className="tool">
            <summary>
              <Icon name="info" small />
              <span className="muted">Thought</span>
            </summary>
            <div className="inner thought">{block.kind === "thought" ? block.text : ""}</div>
          </details>
        ),
      )}
    </div>
  );
}

/**
 * Follows the end of the page until a finger or a wheel scrolls up; reaching the end follows
 * again.
 */
function useFollow(seq: number, streamed: number, isLive: boolean): void {
  const isFollowing = useRef(false);
  useEffect(() => {
    const atEnd = (): boolean => innerHeight + scrollY >= document.documentElement.scrollHeight - 120;
    const leave = (event: WheelEvent | TouchEvent): void => {
      if (!(event instanceof WheelEvent) || event.deltaY < 0) isFollowing.current = false;
    };
    const settle = (): void => {
      if (atEnd() && scrollY > 0) isFollowing.current = true;
    };
    addEventListener("wheel", leave, { passive: true });
    addEventListener("touchmove", leave, { passive: true });
    addEventListener("scroll", settle, { passive: true });
    return () => {
      removeEventListener("wheel", leave);
      removeEventListener("touchmove", leave);
      removeEventListener("scroll", settle);
    };
  }, []);
  useEffect(() => {
    if (isLive && isFollowing.current) scrollTo({ top: document.documentElement.scrollHeight });
  }, [seq, streamed, isLive]);
}
