/** The confirmation of a stop. */
import type { WireTask } from "../../../../../src/core/protocol/rest.ts";
import { ResultLine, useAct } from "../../../components/act.tsx";
import { client } from "../../../lib/client.ts";
import { putTask } from "../../../lib/tasks/task-list.ts";

export function StopForm({ task, onClose }: { task: WireTask; onClose: () => void }) {
  const { run, said, isBusy } = useAct();
  const stop = (): void =>
    void run(async () => {
      putTask(await client.cancel(task.id));
      onClose();
    });
  const hasWorker = task.state === "running" || task.state === "provisioning";
  return (
    <>
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
        <button className="btn line" type="button" onClick={onClose}>
          Let it run
        </button>
      </div>
    </>
  );
}
