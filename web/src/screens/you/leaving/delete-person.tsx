/** An admin deletes another person: says what goes, what stays, and what becomes of open tasks. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { SlipwayProblem } from "../../../../../src/client/problem.ts";
import type { Account } from "../../../../../src/client/types.ts";
import { TextField } from "../../../components/forms/fields.tsx";
import { Sheet } from "../../../components/sheet.tsx";
import { client, problemText } from "../../../lib/client.ts";
import { CancelTick, isConfirmed, WhatGoes } from "./deletion-parts.tsx";
import { ExportRow } from "./export-row.tsx";

interface DeletePersonProps {
  readonly account: Account;
  readonly onClose: () => void;
  readonly onDeleted: () => void;
}

export function DeletePerson({ account, onClose, onDeleted }: DeletePersonProps) {
  const { id, email } = account;
  const queries = useQueryClient();
  const counts = useQuery({
    queryKey: ["counts", id],
    queryFn: ({ signal }) => client.counts({ owner: id }, { signal }),
    staleTime: 0,
  });
  const { needs = 0, running = 0, waiting = 0 } = counts.data ?? {};
  const open = needs + running + waiting;
  const [mayCancel, setMayCancel] = useState(false);
  const [typed, setTyped] = useState("");
  const [problem, setProblem] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const submit = (): void => {
    setBusy(true);
    setProblem(null);
    client.people.delete(id, open > 0 ? "cancel" : null).then(onDeleted, (thrown: unknown) => {
      setBusy(false);
      setProblem(problemText(thrown));
      if (thrown instanceof SlipwayProblem && thrown.code === "task_open")
        void queries.invalidateQueries({ queryKey: ["counts", id] });
    });
  };
  const isComplete = counts.isFetched && isConfirmed(typed, email) && (open === 0 || mayCancel);
  return (
    <Sheet title={`Delete ${email}?`} isOpen onClose={onClose}>
      <WhatGoes isOwn={false} />
      <ul className="rows set">
        <ExportRow
          name={`slipway-${email}.tar.gz`}
          what="All that they have, as one .tar.gz without secrets."
          read={(signal) => client.people.export(id, { signal })}
        />
      </ul>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (isComplete && !isBusy) submit();
        }}
      >
        <CancelTick open={open} isOwn={false} isChecked={mayCancel} onChange={setMayCancel} />
        {open > 0 && (
          <p className="hint">To let them end first, disable the account and keep its tasks, then delete it.</p>
        )}
        <TextField label={`Type ${email} to confirm`} value={typed} onChange={setTyped} />
        {problem !== null && (
          <p className="hint bad" role="alert">
            {problem}
          </p>
        )}
        <div className="acts">
          <button className="btn danger solid" type="submit" disabled={!isComplete || isBusy}>
            Delete the person
          </button>
          <button className="btn line" type="button" onClick={onClose}>
            Leave it
          </button>
        </div>
      </form>
    </Sheet>
  );
}
