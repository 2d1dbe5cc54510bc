/** Retry: a new task from where the person chooses, in this thread or in one of its own. */
import { Suspense, useState } from "react";
import { lazyComponent } from "../../../lazy-component.tsx";
import type { WireTask } from "../../../../../src/core/protocol/rest.ts";
import { Icon } from "../../../components/icon.tsx";
import { Sheet } from "../../../components/sheet.tsx";

const RetryForm = lazyComponent(async () => (await import("./retry-form.tsx")).RetryForm);

/** @param isFork the form begins with a fork. */
export function RetryButton({ task, isFork = false }: { task: WireTask; isFork?: boolean }) {
  const [isOpen, setOpen] = useState(false);
  const name = isFork ? "Fork from here" : "Retry";
  return (
    <>
      <button className="btn line" type="button" onClick={() => setOpen(true)}>
        <Icon name={isFork ? "fork" : "st-retrying"} />
        {name}
      </button>
      <Sheet title={name} isOpen={isOpen} onClose={() => setOpen(false)}>
        {isOpen && (
          <Suspense fallback={<p className="muted">Loading…</p>}>
            <RetryForm task={task} isFork={isFork} onClose={() => setOpen(false)} />
          </Suspense>
        )}
      </Sheet>
    </>
  );
}
