/** The stages of a stop as the log proves them, and after the end what is left of the work. */
import { useState } from "react";
import { ResultLine, useAct } from "../../../components/act.tsx";
import { Icon } from "../../../components/icon.tsx";
import { Sheet } from "../../../components/sheet.tsx";
import { client } from "../../../lib/client.ts";
import type { SavedWork, StopProof } from "../../../lib/log/stop-proof.ts";
import { formatCount, formatElapsed, formatSecond, pluralize } from "../../../lib/format.ts";
import { usePerson } from "../../../lib/session.ts";
import { nameOf } from "../../../lib/tasks/ownership.ts";
import { putTask } from "../../../lib/tasks/task-list.ts";
import { StopReceipt } from "../result/stop-receipt.tsx";
import { useTaskView } from "../task-screen.tsx";

interface Stage {
  readonly name: string;
  readonly at: number | null;
  readonly text: string;
}

function toStages(stop: StopProof, saved: SavedWork | null, by: string): Stage[] {
  const asked = { name: "Asked", at: stop.askedAt, text: stop.isForced ? `${by}, without time to save` : by };
  if (stop.attempt === 0) return [asked, { name: "Cancelled", at: stop.goneAt, text: "No container had started." }];
  const { ended, isPart, goneAt } = stop;
  const isOver = goneAt !== null;
  const told = ended === null ? "" : `${isPart ? "at least " : ""}${pluralize(ended.count, "command")} ended`;
  const lines = saved === null ? "" : `+${formatCount(saved.additions)} −${formatCount(saved.deletions)}`;
  const work = saved === null ? "" : `checkpoint ${saved.sha.slice(0, 7)}, ${lines}`;
  const isSaved = saved !== null && (saved.at >= stop.askedAt || isOver);
  return [
    asked,
    { name: "The agent stopped", at: ended?.at ?? (isOver ? goneAt : null), text: told },
    isOver && saved === null
      ? { name: "Nothing to save", at: goneAt, text: "The agent had changed no file." }
      : { name: "Work saved", at: isSaved ? saved.at : null, text: work },
    { name: "Container gone", at: goneAt, text: isOver ? "It can do nothing more. Nothing was pushed." : "" },
  ];
}

export function StopCard() {
  const { task, log, now } = useTaskView();
  const person = usePerson();
  const { stop, saved } = log.conversation;
  if (stop === null) return null;
  const by = stop.by === null ? "Another person" : nameOf(stop.by, task, person);
  const stages = toStages(stop, saved, `by ${by.replace(/^(?=You$|Another )./, (letter) => letter.toLowerCase())}`);
  const present = stages.findIndex(({ at }) => at === null);
  const isOver = stop.goneAt !== null;
  return (
    <section className="card" aria-labelledby="stop-title" aria-live="polite">
      <div className="card-top">
        <h2 id="stop-title">{isOver ? `Cancelled at ${formatSecond(stop.goneAt)}` : "Stopping"}</h2>
        <span className="note num">
          {isOver ? `took ${formatElapsed(stop.goneAt - stop.askedAt)}` : formatElapsed(now - stop.askedAt)}
        </span>
      </div>
      <ol className="ladder">
        {stages.map(({ name, at, text }, i) => (
          <li key={name} className={at !== null ? "y st-done" : i === present ? "now st-cancelling" : "st-cancelling"}>
            <span className="dot">
              {at !== null && <Icon name="check" />}
              {i === present && <Icon name="more" />}
            </span>
            <b className={at === null && i !== present ? "wait" : ""}>{name}</b>
            <span className="end">{at === null ? "" : formatSecond(at)}</span>
            {text !== "" && <small>{text}</small>}
          </li>
        ))}
      </ol>
      {isOver && stop.attempt > 0 && <StopReceipt stop={stop} saved={saved} />}
      {!isOver && task.state === "cancelling" && !stop.isForced && <KillButton saved={saved} />}
    </section>
  );
}

/** For operators: does not wait for the agent to save its work. */
export function KillButton({ saved }: { saved: SavedWork | null }) {
  const { task } = useTaskView();
  const person = usePerson();
  const { run, said, isBusy } = useAct();
  const [isOpen, setOpen] = useState(false);
  if (person === null || person.role === "user") return null;
  const kill = (): void => void run(async () => putTask(await client.kill(task.id)));
  return (
    <div className="acts">
      <button className="btn danger" type="button" onClick={() => setOpen(true)}>
        Kill now
      </button>
      <Sheet title="Kill now?" isOpen={isOpen} onClose={() => setOpen(false)}>
        <p className="read">
          {saved === null
            ? "The container is removed at once. Nothing is saved yet, so what the agent changed is lost."
            : `The container is removed at once. What was saved at ${formatSecond(saved.at)} stays; what was changed since is lost.`}
        </p>
        <ResultLine said={said} />
        <div className="acts">
          <button className="btn danger solid" type="button" disabled={isBusy} onClick={kill}>
            Kill the task
          </button>
          <button className="btn line" type="button" onClick={() => setOpen(false)}>
            Leave it
          </button>
        </div>
      </Sheet>
    </div>
  );
}
