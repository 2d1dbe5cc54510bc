/** What an operator does with the queue as a whole: pause, drain, resume; and clean up. */
import { useQueryClient } from "@tanstack/react-query";
import { Link } from "../../navigation/link.tsx";
import { taskAddress } from "../../navigation/addresses.ts";
import { useState } from "react";
import type { Overview } from "../../../../src/core/protocol/rest.ts";
import { useAct } from "../../components/act.tsx";
import { Icon } from "../../components/icon.tsx";
import { Sheet } from "../../components/sheet.tsx";
import { client } from "../../lib/client.ts";
import { formatElapsed, pluralize } from "../../lib/format.ts";
import { usePerson } from "../../lib/session.ts";
import { ResultBanner } from "./result-banner.tsx";

type Queue = Overview["queue"];
type Drain = NonNullable<Queue["drain"]>;
type Action = "pause" | "drain" | "resume" | "gc";

interface Texts {
  readonly button: string;
  readonly icon: string;
  readonly title: string;
  /** What will happen. */
  readonly what: string;
  readonly confirm: string;
  /** @returns what happened. */
  readonly act: () => Promise<string>;
}

const ACTIONS: Readonly<Record<Action, Texts>> = {
  pause: {
    button: "Pause the queue",
    icon: "pause",
    title: "Pause the queue?",
    what: "No further task starts. Running tasks continue to their end.",
    confirm: "Pause",
    act: async () => {
      await client.pauseQueue(true);
      return "The queue is paused. Running tasks continue.";
    },
  },
  drain: {
    button: "Drain the queue",
    icon: "drain",
    title: "Drain the queue?",
    what: "For a stop of the machine or its engine. No further task starts, running tasks continue to their end, and one that waits for an answer is parked with its work saved. This page says when nothing runs any more. The queue stays like that, also after a restart, until you resume it.",
    confirm: "Drain",
    act: async () => {
      await client.drainQueue();
      return "The queue drains. Running tasks continue to their end.";
    },
  },
  resume: {
    button: "Resume the queue",
    icon: "pause",
    title: "Resume the queue?",
    what: "Waiting tasks start again, in fair order.",
    confirm: "Resume",
    act: async () => {
      await client.pauseQueue(false);
      return "The queue runs again.";
    },
  },
  gc: {
    button: "Clean up",
    icon: "trash",
    title: "Clean up?",
    what: "Removes containers, images, volumes and repositories that no task needs any more. Running tasks keep theirs.",
    confirm: "Clean up",
    act: async () => {
      const { items } = await client.gc({});
      return `${pluralize(items.length, "item")} removed.`;
    },
  },
};

function offers({ paused, drain }: Queue): readonly Action[] {
  if (drain !== null) return ["resume", "gc"];
  return paused ? ["resume", "drain", "gc"] : ["pause", "drain", "gc"];
}

export function QueueActions({ queue }: { queue: Queue }) {
  const [action, setAction] = useState<Action | null>(null);
  const act = useAct();
  const queries = useQueryClient();
  const person = usePerson();
  const run = (chosen: Action): void => {
    setAction(null);
    void act
      .run(ACTIONS[chosen].act, { done: (text) => text })
      .then(() => queries.invalidateQueries({ queryKey: ["overview"] }));
  };
  const texts = action === null ? null : ACTIONS[action];
  return (
    <div className="talk">
      <div className="acts tight">
        {offers(queue).map((one) => (
          <button key={one} className="btn line" type="button" onClick={() => setAction(one)}>
            <Icon name={ACTIONS[one].icon} small />
            {ACTIONS[one].button}
          </button>
        ))}
        <Link className="btn line" to="/console/egress">
          <Icon name="send" small />
          Egress lists
        </Link>
        {person?.role === "admin" && (
          <Link className="btn line" to="/console/audit">
            <Icon name="shield" small />
            Audit log
          </Link>
        )}
      </div>
      <ResultBanner act={act} name="Result for the queue" />
      <Sheet title={texts?.title ?? ""} isOpen={action !== null} onClose={() => setAction(null)}>
        <p className="read">{texts?.what}</p>
        <div className="acts">
          <button className="btn primary" type="button" onClick={() => action !== null && run(action)}>
            {texts?.confirm}
          </button>
          <button className="btn line" type="button" onClick={() => setAction(null)}>
            Leave it
          </button>
        </div>
      </Sheet>
    </div>
  );
}

function describeDrain({ state, running, clearing }: Drain): string {
  if (state === "drained") return "Nothing runs: the server and the machine can be stopped.";
  if (running > 0) return `${pluralize(running, "task")} still ${running === 1 ? "runs" : "run"}.`;
  return `${pluralize(clearing, "ended attempt")} ${clearing === 1 ? "is" : "are"} cleared up.`;
}

/** What a drain waits for, until it waits for nothing. */
export function DrainCard({ drain, now }: { drain: Drain; now: number }) {
  const isDrained = drain.state === "drained";
  return (
    <section className={`card tinted st-${isDrained ? "done" : "queued"} c12`} aria-labelledby="drain-title">
      <div className="card-head">
        <Icon name={isDrained ? "st-done" : "st-queued"} className="state-ic" />
        <div className="grow">
          <h2 id="drain-title">{isDrained ? "Drained" : "Draining"}</h2>
          <p className="note">
            <span role="status" aria-label="Drain">
              {describeDrain(drain)}
            </span>{" "}
            Begun {formatElapsed(now - Date.parse(drain.since))} ago. Tasks that wait start when the queue is resumed.
          </p>
        </div>
      </div>
      {drain.tasks.length > 0 && (
        <div className="slots">
          {drain.tasks.map(({ id, title, state, phase, startedAt }) => (
            <Link key={id} className={`slot st-${state}`} to={taskAddress(id)}>
              <Icon name={`st-${state}`} />
              <span>
                <b>{title}</b>
                <small>{phase ?? state}</small>
              </span>
              {startedAt !== null && <span className="slot-end num">{formatElapsed(now - Date.parse(startedAt))}</span>}
            </Link>
          ))}
        </div>
      )}
    </section>
  );
}
