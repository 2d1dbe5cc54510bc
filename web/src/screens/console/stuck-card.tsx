/** A machine that does not move: why, since when, and what an operator can do about it. */
import { useQueryClient } from "@tanstack/react-query";
import { Link } from "../../navigation/link.tsx";
import { taskAddress } from "../../navigation/addresses.ts";
import { useState } from "react";
import type { Overview } from "../../../../src/core/protocol/rest.ts";
import { useAct, type Act } from "../../components/act.tsx";
import { Icon } from "../../components/icon.tsx";
import { Sheet } from "../../components/sheet.tsx";
import { client, problemText } from "../../lib/client.ts";
import { formatAge, formatClock } from "../../lib/format.ts";

type Way = "cancel" | "kill";

interface Texts {
  readonly name: string;
  readonly what: string;
  readonly done: string;
  readonly undone: string;
}

const TEXTS: Readonly<Record<Way, Texts>> = {
  cancel: {
    name: "Cancel",
    what: "The agent is asked to save its work, then its container is removed. Nothing is pushed; the owner can retry from what is saved.",
    done: "is cancelled: its agent saves its work, then its container is removed.",
    undone: "is not cancelled.",
  },
  kill: {
    name: "Kill",
    what: "The container is removed at once. What was not saved with a checkpoint is lost; the owner can retry from the last one.",
    done: "is killed: its container is removed at once.",
    undone: "is not killed.",
  },
};

interface Asked {
  readonly way: Way;
  readonly id: string;
  /** Of the task. */
  readonly name: string;
}

export interface Stop {
  readonly act: Act;
  /** What the operator is asked to confirm. */
  readonly asked: Asked | null;
  readonly ask: (asked: Asked | null) => void;
  readonly confirm: () => void;
}

/** Outlives the cards: a machine that is stopped, or goes on, has none after the next reading. */
export function useStop(): Stop {
  const [asked, ask] = useState<Asked | null>(null);
  const act = useAct();
  const queries = useQueryClient();
  const confirm = (): void => {
    if (asked === null) return;
    const { way, id, name } = asked;
    ask(null);
    const words = {
      done: () => `“${name}” ${TEXTS[way].done}`,
      problem: (thrown: unknown) => `“${name}” ${TEXTS[way].undone} ${problemText(thrown)}`,
    };
    void act
      .run(() => (way === "kill" ? client.kill(id) : client.cancel(id)), words)
      .then(() => queries.invalidateQueries());
  };
  return { act, asked, ask, confirm };
}

export function StopSheet({ stop: { asked, ask, confirm } }: { stop: Stop }) {
  if (asked === null) return null;
  const { name, what } = TEXTS[asked.way];
  return (
    <Sheet title={`${name} “${asked.name}”?`} isOpen onClose={() => ask(null)}>
      <p className="read">{what}</p>
      <div className="acts">
        <button className="btn danger" type="button" onClick={confirm}>
          {name} the task
        </button>
        <button className="btn line" type="button" onClick={() => ask(null)}>
          Leave it
        </button>
      </div>
    </Sheet>
  );
}

interface StuckCardProps {
  readonly machine: Overview["stuck"][number];
  /** Null = not among the open tasks that are listed. */
  readonly title: string | null;
  readonly now: number;
  readonly onAsk: Stop["ask"];
}

export function StuckCard({ machine, title, now, onAsk }: StuckCardProps) {
  const { id, state, reason } = machine;
  const since = Date.parse(machine.since);
  const isAsking = reason.includes("waits for an answer");
  const name = title ?? id;
  return (
    <section className={`card tinted st-${isAsking ? "awaiting" : "failed"} c12`} aria-label={`Attention: ${name}`}>
      <div className="card-head">
        <Icon name={isAsking ? "st-awaiting" : "st-failed"} className="state-ic" />
        <div className="grow">
          <h2>{isAsking ? "A person must answer" : `Stuck: ${reason}`}</h2>
          <p className="note">
            {title === null ? "" : `${title} · `}
            {state} since {formatClock(since)} ({formatAge(since, now)}) · <span className="mono">{id}</span>
          </p>
        </div>
      </div>
      <div className="acts tight">
        <Link className="btn line" to={taskAddress(id, "machine")}>
          Inspect
        </Link>
        {/* One that is set aside is over. */}
        {(state === "failed" ? [] : (["cancel", "kill"] as const)).map((way) => (
          <button key={way} className="btn line" type="button" onClick={() => onAsk({ way, id, name })}>
            {TEXTS[way].name}
          </button>
        ))}
      </div>
    </section>
  );
}
