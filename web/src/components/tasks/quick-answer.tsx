/** The options of an open question as buttons of a row. */
import { Link } from "../../navigation/link.tsx";
import { taskAddress } from "../../navigation/addresses.ts";
import { useState } from "react";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { dispatch, newKey, outbox } from "../../lib/device/outbox.ts";
import { useStore } from "../../lib/store.ts";
import { putTask } from "../../lib/tasks/task-list.ts";
import { ResultLine, useAct } from "../act.tsx";

const SHOWN = 2;
const LONGEST = 28;

export function QuickAnswer({ task }: { task: WireTask }) {
  const { question } = task;
  const [sent, setSent] = useState<string | null>(null);
  const kept = useStore(outbox);
  const { run, said } = useAct();
  if (question === null) return null;
  const options = (question.options ?? []).filter((option) => option.length <= LONGEST).slice(0, SHOWN);
  /** What this device keeps, also after a reload. */
  const own = kept.find(({ work }) => work.kind === "answer" && work.body.questionId === question.id);
  const waits = own?.state === "waiting" && own.work.kind === "answer" ? own.work.body.text : null;
  const send = async (text: string): Promise<void> => {
    setSent(text);
    const isDone = await run(async () => {
      const body = { questionId: question.id, text };
      const sent = await dispatch({ kind: "answer", taskId: task.id, body }, newKey());
      if (sent.kind !== "sent") setSent(null);
      else if (sent.receipt.kind === "task") putTask(sent.receipt.task);
    });
    if (!isDone) setSent(null);
  };
  return (
    <div className="row-acts">
      {options.map((option) => (
        <button
          key={option}
          className="btn line"
          type="button"
          disabled={sent !== null || own !== undefined}
          onClick={() => void send(option)}
        >
          {waits === option ? `${option}, kept` : sent === option ? "Sending…" : option}
        </button>
      ))}
      <Link className="btn quiet" to={taskAddress(task.id)}>
        Open
      </Link>
      <ResultLine said={said} />
    </div>
  );
}
