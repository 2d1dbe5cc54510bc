/** The conversation: what was asked, what the agent wrote and did, and the composer. */
import { AttachedList } from "../../components/forms/attachments.tsx";
import { Suspense, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState, type RefObject } from "react";
import { lazyComponent } from "../../lazy-component.tsx";
import { flushSync } from "react-dom";
import { WindowVirtualizer } from "virtua";
import { Icon } from "../../components/icon.tsx";
import { Markdown } from "../../components/text/markdown.tsx";
import { useWideScreen } from "../../lib/keys.ts";
import { isWorthAsking } from "../../lib/device/push-support.ts";
import type { Block } from "../../lib/log/block.ts";
import { showLog, type LogView } from "../../lib/log/event-log.ts";
import { toSections, type Section } from "../../lib/log/sections.ts";
import { formatClock, formatDuration, pluralize } from "../../lib/format.ts";
import { usePerson } from "../../lib/session.ts";
import { isOwn, mayDirect } from "../../lib/tasks/ownership.ts";
import { isSettled } from "../../lib/tasks/task-view.ts";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { BlockView, ToolRow } from "./blocks.tsx";
import { Composer } from "./composer/composer.tsx";
import { useFirstView, useResult } from "./result/first-view.tsx";
import { ThreadFold } from "./thread/thread-fold.tsx";
import { useTaskView } from "./task-screen.tsx";

/** Stands at the end: it may come after what is read. */
const OutboxCard = lazyComponent(async () => (await import("../../components/device/outbox-card.tsx")).OutboxCard);
/** Parts of a few tasks only. */
const Earlier = lazyComponent(async () => (await import("./thread/earlier.tsx")).Earlier);
const StopCard = lazyComponent(async () => (await import("./stop/stop-card.tsx")).StopCard);
const AskCard = lazyComponent(async () => (await import("./ask-card.tsx")).AskCard);
const PushOffer = lazyComponent(async () => (await import("../../components/device/push-offer.tsx")).PushOffer);
const ChangesPane = lazyComponent(async () => (await import("../wide/changes-pane.tsx")).ChangesPane);

export function ConversationView() {
  const { task } = useTaskView();
  return (
    <>
      <Talk key={task.id} />
      {useWideScreen() && (
        <Suspense>
          <ChangesPane />
        </Suspense>
      )}
    </>
  );
}

function Talk() {
  const { task, log } = useTaskView();
  const { first, rest } = useItems(log);
  const end = (rest.at(-1) ?? first.at(-1))?.key ?? null;
  const person = usePerson();
  const ended = isSettled(task);
  // The log may be ahead of the task, which has the summary.
  const isEndShown = useAfterLog(ended && task.seq >= log.seq ? "end" : null);
  const isUnfolded = useUnfolded(end, log.connection === "connecting" || ended);
  // The result of a task that ends while it is watched comes last: nothing on the screen moves.
  const [isOverAtOpen] = useState(ended);
  const isShown = useFirstView(isOverAtOpen);
  const Result = useResult(ended);
  const between = useRef<HTMLDivElement>(null);
  const talk = useRef<HTMLElement>(null);
  const { isFollowing, stay } = useFollow(log.seq, log.streaming?.text.length ?? 0, !ended);
  useShownList(task.id, talk, between, isFollowing);
  const isShifted = useShift(rest, log.conversation.left, isFollowing);
  const show = (item: Item) => (
    <div key={item.key} className="talk-item">
      {item.kind === "writing" ? (
        <Writing text={item.text} />
      ) : (
        <SectionView section={item} isLast={item.key === end && !ended} isUnfolded={isUnfolded(item.key)} />
      )}
    </div>
  );
  return (
    <>
      <section ref={talk} className="talk" aria-label="Conversation" aria-busy={!isShown}>
        {isShown && ended && isOverAtOpen && Result !== null && <Result />}
        {(isShown || !isOverAtOpen) && (
          <>
            <ThreadFold />
            <Prompt />
          </>
        )}
        {isShown && (
          <WindowVirtualizer bufferSize={800} data={first}>
            {show}
          </WindowVirtualizer>
        )}
        {isShown && rest.length > 0 && (
          <>
            <Between ref={between} id={task.id} left={log.conversation.left} />
            <WindowVirtualizer bufferSize={800} itemSize={ROW} data={rest} shift={isShifted} onResize={stay}>
              {show}
            </WindowVirtualizer>
          </>
        )}
        {isEndShown && !isOverAtOpen && Result !== null && <Result />}
        <AtEnd isShown={isShown} />
      </section>
      {mayDirect(task, person) ? <Composer /> : <NotYours task={task} />}
    </>
  );
}

/** What stands below the conversation; each part may come after what is read. */
function AtEnd({ isShown }: { isShown: boolean }) {
  const { task, log } = useTaskView();
  const [isOffered] = useState(isWorthAsking);
  return (
    <>
      {isShown && isOffered && (
        <Suspense>
          <PushOffer />
        </Suspense>
      )}
      <Suspense>
        <OutboxCard taskId={task.id} />
      </Suspense>
      {isShown && task.state === "cancelling" && (
        <Suspense>
          <StopCard />
        </Suspense>
      )}
      {isShown && <Asked />}
      {log.problem !== null && <p className="banner st-failed">{log.problem}</p>}
    </>
  );
}

function Prompt() {
  const { task } = useTaskView();
  const person = usePerson();
  return (
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
  );
}

/** The height of a row of work. A list that estimates it itself corrects all its rows at once. */
const ROW = 52;

/** What the list shows: the sections, and last the text that is being written. */
type Item = Section | { readonly kind: "writing"; readonly key: string; readonly text: string };

/** In two lists: between them may be what the page does not hold (E4 of event-log.ts). */
function useItems({ conversation, streaming }: LogView): { first: readonly Item[]; rest: readonly Item[] } {
  const { blocks, head } = conversation;
  const lists = useMemo(
    () => ({ first: toSections(blocks.slice(0, head)), rest: toSections(blocks.slice(head)) }),
    [blocks, head],
  );
  if (streaming === null) return lists;
  const writing = { kind: "writing", key: `writing ${streaming.id}`, text: streaming.text } as const;
  const { first, rest } = lists;
  return rest.length > 0 ? { first, rest: [...rest, writing] } : { first: [...first, writing], rest };
}

/**
 * True in the render in which the begin of the list changes and what is on the screen must stay:
 * for a person at the end, and for one who asked for more. At the top nothing of it is on the
 * screen.
 */
function useShift(items: readonly Item[], left: number, isFollowing: () => boolean): boolean {
  const before = useRef({ key: items[0]?.key, left });
  const key = items[0]?.key;
  useEffect(() => {
    before.current = { key, left };
  }, [key, left]);
  const was = before.current;
  return was.key !== undefined && was.key !== key && (left < was.left || isFollowing());
}

/**
 * What the page does not hold. Its room is there before: what stands below must not move when the
 * first blocks are left out, or the last ones come back.
 */
function Between({ ref, id, left }: { ref: RefObject<HTMLDivElement | null>; id: string; left: number }) {
  const room = <div className="more-row" />;
  return (
    <div ref={ref}>
      {left > 0 ? (
        <Suspense fallback={room}>
          <Earlier id={id} left={left} />
        </Suspense>
      ) : (
        room
      )}
    </div>
  );
}

/** More than what a long log shows. */
const WATCHED = 1_000;

/**
 * Work that was watched stays unfolded until the screen is left: what is read does not go away.
 *
 * @param last the key of the last item. @param isPast while a log comes in, and after its end.
 */
function useUnfolded(last: string | null, isPast: boolean): (key: string) => boolean {
  const watched = useRef(new Set<string>());
  useEffect(() => {
    if (last === null || isPast) return;
    watched.current.add(last);
    const [oldest] = watched.current;
    if (watched.current.size > WATCHED && oldest !== undefined) watched.current.delete(oldest);
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

interface Follow {
  readonly isFollowing: () => boolean;
  /** Before a change is painted: at the end, if it is followed. */
  readonly stay: () => void;
}

/**
 * Follows the end of the page until a finger or a wheel scrolls up; reaching the end follows
 * again.
 */
function useFollow(seq: number, streamed: number, isLive: boolean): Follow {
  const place = useRef({ isAtEnd: false, isLive });
  useEffect(() => {
    const atEnd = (): boolean => innerHeight + scrollY >= document.documentElement.scrollHeight - 120;
    const leave = (event: WheelEvent | TouchEvent): void => {
      if (!(event instanceof WheelEvent) || event.deltaY < 0) place.current.isAtEnd = false;
    };
    const settle = (): void => {
      if (atEnd() && scrollY > 0) place.current.isAtEnd = true;
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
  const isFollowing = useCallback(() => place.current.isLive && place.current.isAtEnd, []);
  const stay = useCallback(() => {
    if (!isFollowing()) return;
    scrollTo({ top: document.documentElement.scrollHeight });
    // The browser reports the scroll in the next frame, but the list must draw in this one.
    flushSync(() => dispatchEvent(new Event("scroll")));
  }, [isFollowing]);
  useLayoutEffect(() => {
    place.current.isLive = isLive;
    stay();
  }, [seq, streamed, isLive, stay]);
  return { isFollowing, stay };
}

function useShownList(
  id: string,
  talk: RefObject<HTMLElement | null>,
  between: RefObject<HTMLElement | null>,
  isFollowing: () => boolean,
): void {
  useEffect(() => {
    showLog(id, {
      isFollowing,
      // What may be left out is read when it, or what comes after it, is on the screen.
      isRead: () =>
        !isFollowing() && between.current !== null && between.current.getBoundingClientRect().top < innerHeight,
      // A list hides an item until it knows its height.
      isMeasured: () =>
        ![...(talk.current?.querySelectorAll(".talk-item") ?? [])].some(
          ({ parentElement }) => parentElement?.style.visibility === "hidden",
        ),
    });
    return () => showLog(id, null);
  }, [id, talk, between, isFollowing]);
}
