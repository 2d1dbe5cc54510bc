/** Stop with a confirmation that says what happens. */
import { useState } from "react";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { ResultLine, useAct } from "../../components/act.tsx";
import { Icon } from "../../components/icon.tsx";
import { Sheet } from "../../components/sheet.tsx";
import { client } from "../../lib/client.ts";
import { putTask } from "../../lib/tasks/task-list.ts";

export function StopButton({ task }: { task: WireTask }) {
  const [isOpen, setOpen] = useState(false);
  const { run, said, isBusy } = useAct();
  const stop = (): void =>
    void run(async () => {
      putTask(await client.cancel(task.id));
      setOpen(false);
    });
  if (task.state === "cancelling") return null;
  const hasWorker = task.state === "running" || task.state === "provisioning";
  return (
    <>
      <button className="btn danger" type="button" onClick={() => setOpen(true)}>
        <Icon name="stop" small />
        Stop
      </button>
      <Sheet title="Stop this task?" isOpen={isOpen} onClose={() => setOpen(false)}>
        <p className="read">
          {hasWorker
            ? "The agent gets a few seconds to save its work. Then its container ends. Nothing is pushed; what was saved stays readable, and a retry can go on from it."
            : "The task ends now. Nothing more is pushed."}
        </p>
        <ResultLine said={said} />
        <div className="acts">
          <button className="btn danger solid" type="button" disabled={isBusy} onClick={stop}>
            Stop the task
          </button>
          <button className="btn line" type="button" onClick={() => setOpen(false)}>
            Let it run
          </button>
        </div>
      </Sheet>
    </>
  );
}
