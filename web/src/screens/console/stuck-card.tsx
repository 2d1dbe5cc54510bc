/** A machine that does not move: why, since when, and what an operator can do about it. */
import { useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import type { Overview } from "../../../../src/core/protocol/rest.ts";
import { Icon } from "../../components/icon.tsx";
import { Sheet } from "../../components/sheet.tsx";
import { client, problemText } from "../../lib/client.ts";
import { formatAge, formatClock } from "../../lib/format.ts";

interface StuckCardProps {
  readonly machine: Overview["stuck"][number];
  /** Null = not among the open tasks that are listed. */
  readonly title: string | null;
  readonly now: number;
}

type Act = "cancel" | "kill";

const TEXTS: Readonly<Record<Act, { name: string; what: string; said: string }>> = {
  cancel: {
    name: "Cancel",
    what: "The agent is asked to save its work, then its container is removed. Nothing is pushed; the owner can retry from what is saved.",
    said: "It saves its work and ends.",
  },
  kill: {
    name: "Kill",
    what: "The container is removed at once. What was not saved with a checkpoint is lost; the owner can retry from the last one.",
    said: "Its container is being removed.",
  },
};

export function StuckCard({ machine, title, now }: StuckCardProps) {
  const [act, setAct] = useState<Act | null>(null);
  const [said, setSaid] = useState<string | null>(null);
  const queries = useQueryClient();
  const since = Date.parse(machine.since);
  const isAsking = machine.reason.includes("waits for an answer");
  const name = title ?? machine.id;
  const run = async (chosen: Act): Promise<void> => {
    setAct(null);
    try {
      await (chosen === "kill" ? client.kill(machine.id) : client.cancel(machine.id));
      setSaid(TEXTS[chosen].said);
      await queries.invalidateQueries();
    } catch (thrown) {
      setSaid(problemText(thrown));
    }
  };
  return (
    <section className={`card tinted st-${isAsking ? "awaiting" : "failed"} c12`} aria-label={`Attention: ${name}`}>
      <div className="card-head">
        <Icon name={isAsking ? "st-awaiting" : "st-failed"} className="state-ic" />
        <div className="grow">
          <h2>{isAsking ? "A person must answer" : `Stuck: ${machine.reason}`}</h2>
          <p className="note">
            {title === null ? "" : `${title} · `}
            {machine.state} since {formatClock(since)} ({formatAge(since, now)}) ·{" "}
            <span className="mono">{machine.id}</span>
          </p>
        </div>
      </div>
      <div className="acts tight">
        <Link className="btn line" to="/tasks/$id/machine" params={{ id: machine.id }}>
          Inspect
        </Link>
        {/* One that is set aside is over. */}
        {(machine.state === "failed" ? [] : (["cancel", "kill"] as const)).map((one) => (
          <button key={one} className="btn line" type="button" onClick={() => setAct(one)}>
            {TEXTS[one].name}
          </button>
        ))}
        {said !== null && (
          <span className="note" role="status">
            {said}
          </span>
        )}
      </div>
      {act !== null && (
        <Sheet title={`${TEXTS[act].name} “${name}”?`} isOpen onClose={() => setAct(null)}>
          <p className="read">{TEXTS[act].what}</p>
          <div className="acts">
            <button className="btn danger" type="button" onClick={() => void run(act)}>
              {TEXTS[act].name} the task
            </button>
            <button className="btn line" type="button" onClick={() => setAct(null)}>
              Leave it
            </button>
          </div>
        </Sheet>
      )}
    </section>
  );
}
