/** Stop with a confirmation that says what happens. */
import { Suspense, useState } from "react";
import { lazyComponent } from "../../../lazy-component.tsx";
import type { WireTask } from "../../../../../src/core/protocol/rest.ts";
import { Icon } from "../../../components/icon.tsx";
import { Sheet } from "../../../components/sheet.tsx";

/** Behind a tap. */
const StopForm = lazyComponent(async () => (await import("./stop-form.tsx")).StopForm);

export function StopButton({ task }: { task: WireTask }) {
  const [isOpen, setOpen] = useState(false);
  if (task.state === "cancelling") return null;
  return (
    <>
      <button className="btn danger" type="button" onClick={() => setOpen(true)}>
        <Icon name="stop" small />
        Stop
      </button>
      <Sheet title="Stop this task?" isOpen={isOpen} onClose={() => setOpen(false)}>
        <Suspense fallback={<p className="muted">Loading…</p>}>
          <StopForm task={task} onClose={() => setOpen(false)} />
        </Suspense>
      </Sheet>
    </>
  );
}
