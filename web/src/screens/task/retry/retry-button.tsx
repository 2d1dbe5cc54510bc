/** Retry: a new task of the same thread, from where the person chooses. */
import { lazy, Suspense, useState } from "react";
import type { WireTask } from "../../../../../src/core/protocol/rest.ts";
import { Icon } from "../../../components/icon.tsx";
import { Sheet } from "../../../components/sheet.tsx";

const RetryForm = lazy(async () => ({ default: (await import("./retry-form.tsx")).RetryForm }));

export function RetryButton({ task }: { task: WireTask }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <>
      <button className="btn line" type="button" onClick={() => setOpen(true)}>
        <Icon name="st-retrying" />
        Retry
      </button>
      <Sheet title="Retry" isOpen={isOpen} onClose={() => setOpen(false)}>
        {isOpen && (
          <Suspense fallback={<p className="muted">Loading…</p>}>
            <RetryForm task={task} onClose={() => setOpen(false)} />
          </Suspense>
        )}
      </Sheet>
    </>
  );
}
