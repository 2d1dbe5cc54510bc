/** The form of both deletions of an account: one's own, and an admin's of another person. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState, type ReactNode } from "react";
import { SlipwayProblem } from "../../../../../src/client/problem.ts";
import { ResultLine, useAct } from "../../../components/act.tsx";
import { TextField } from "../../../components/forms/fields.tsx";
import { client } from "../../../lib/client.ts";
import { CancelTick } from "./deletion-parts.tsx";

interface DeletionFormProps {
  readonly email: string;
  /** Whose open tasks are counted: an id, or `me` for one's own account. */
  readonly owner: string;
  /** The words of the two buttons. */
  readonly action: string;
  readonly refrain: string;
  /** False while the children ask for something. */
  readonly isReady?: boolean;
  readonly onDelete: (openTasks: "cancel" | null) => Promise<void>;
  readonly onRefused?: (code: string) => void;
  readonly onClose: () => void;
  readonly children?: ReactNode;
}

export function DeletionForm(props: DeletionFormProps) {
  const { email, owner, action, refrain, isReady = true, onDelete, onRefused, onClose, children } = props;
  const queries = useQueryClient();
  const counts = useQuery({
    queryKey: ["counts", owner],
    queryFn: ({ signal }) => client.counts({ owner }, { signal }),
    staleTime: 0,
  });
  const { needs = 0, running = 0, waiting = 0 } = counts.data ?? {};
  const open = needs + running + waiting;
  const [mayCancel, setMayCancel] = useState(false);
  const [typed, setTyped] = useState("");
  const { run, said, isBusy } = useAct();
  const look = (thrown: unknown): never => {
    const code = thrown instanceof SlipwayProblem ? thrown.code : "";
    if (code === "task_open") void queries.invalidateQueries({ queryKey: ["counts", owner] });
    onRefused?.(code);
    throw thrown;
  };
  const submit = (): void => void run(() => onDelete(open > 0 ? "cancel" : null).catch(look));
  const isConfirmed = typed.trim().toLowerCase() === email.toLowerCase();
  const isComplete = counts.isFetched && isReady && isConfirmed && (open === 0 || mayCancel);
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (isComplete && !isBusy) submit();
      }}
    >
      <CancelTick open={open} isOwn={owner === "me"} isChecked={mayCancel} onChange={setMayCancel} />
      {children}
      <TextField label={`Type ${email} to confirm`} value={typed} onChange={setTyped} />
      <ResultLine said={said} />
      <div className="acts">
        <button className="btn danger solid" type="submit" disabled={!isComplete || isBusy}>
          {action}
        </button>
        <button className="btn line" type="button" onClick={onClose}>
          {refrain}
        </button>
      </div>
    </form>
  );
}
