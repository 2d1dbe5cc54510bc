/** What was said in all tasks of a thread: the newest part first, earlier parts on request. */
import { useInfiniteQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { Link } from "../../../navigation/link.tsx";
import { taskAddress } from "../../../navigation/addresses.ts";
import type { WireEvent } from "../../../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../../../src/core/protocol/rest.ts";
import { StatePill } from "../../../components/lifecycle/state-pill.tsx";
import { isMarkdownLoaded, loadMarkdown } from "../../../components/text/markdown.tsx";
import { client, problemText } from "../../../lib/client.ts";
import { formatClock, formatDay } from "../../../lib/format.ts";
import { ConversationFold } from "../../../lib/log/conversation.ts";
import { usePerson } from "../../../lib/session.ts";
import { mayDirect } from "../../../lib/tasks/ownership.ts";
import { getAppearance, isSettled } from "../../../lib/tasks/task-view.ts";
import { BlockView } from "../blocks.tsx";
import { RetryButton } from "../retry/retry-button.tsx";
import { TaskContext, useTaskView, type TaskView } from "../task-screen.tsx";

const PAGE = 100;

export function ThreadView() {
  const { task } = useTaskView();
  const said = useInfiniteQuery({
    queryKey: ["conversation", task.threadId],
    queryFn: ({ signal, pageParam }) =>
      client.conversation(task.threadId, { before: pageParam, limit: PAGE }, { signal }),
    initialPageParam: "latest",
    getNextPageParam: (page) => page.next,
  });
  // A text is not as high as what is read of it.
  const [isReadable, setReadable] = useState(isMarkdownLoaded);
  useEffect(() => {
    void Promise.allSettled([loadMarkdown()]).then(() => setReadable(true));
  }, []);
  const pages = (isReadable && said.data?.pages) || [];
  const tasks = new Map(pages.flatMap((page) => page.tasks).map((one) => [one.id, one]));
  const events = pages.flatMap((page) => page.items);
  return (
    <section className="talk" aria-label="Thread">
      {said.error !== null && (
        <p className="banner st-failed" role="alert">
          {problemText(said.error)}
        </p>
      )}
      {(said.isPending || !isReadable) && <p className="note">Reading the thread…</p>}
      {isReadable && said.hasNextPage && (
        <button
          className="btn line wide"
          type="button"
          disabled={said.isFetchingNextPage}
          onClick={() => void said.fetchNextPage()}
        >
          {said.isFetchingNextPage ? "Loading…" : "What was said before"}
        </button>
      )}
      {/* Ids grow with time. */}
      {[...tasks.values()]
        .toSorted((a, b) => (a.id < b.id ? -1 : 1))
        .map((one) => (
          <Part key={one.id} task={one} events={events.filter(({ taskId }) => taskId === one.id)} />
        ))}
    </section>
  );
}

function Part({ task, events }: { task: WireTask; events: readonly WireEvent[] }) {
  const { now } = useTaskView();
  const person = usePerson();
  const fold = new ConversationFold();
  for (const event of events.toSorted((a, b) => a.seq - b.seq)) fold.add(event);
  const conversation = fold.get();
  const log: TaskView["log"] = { seq: 0, conversation, streaming: null, connection: "ended", problem: null };
  const created = Date.parse(task.createdAt);
  return (
    <section aria-label={task.title}>
      <h2 className="over">
        <Link className="link tall" to={taskAddress(task.id)}>
          {task.title}
        </Link>{" "}
        <StatePill appearance={getAppearance(task)} word={task.state} />
      </h2>
      {/* The prompt is the first thing that was said. */}
      {events.some(({ type }) => type === "task.submitted") && (
        <article className="said">
          <p className="who">
            <b>Prompt</b>{" "}
            <span>
              {formatDay(created)} {formatClock(created)}
            </span>
          </p>
          <p className="read prompt">{task.prompt}</p>
        </article>
      )}
      <TaskContext value={{ task, log, now }}>
        {conversation.blocks.map((block) => (
          <div key={block.key} className="talk-item">
            <BlockView block={block} />
          </div>
        ))}
      </TaskContext>
      {isSettled(task) && task.headSha !== null && mayDirect(task, person) && (
        <div className="acts">
          <RetryButton task={task} isFork />
        </div>
      )}
    </section>
  );
}
