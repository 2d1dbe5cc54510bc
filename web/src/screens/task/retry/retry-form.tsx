/** The form of a retry; it is loaded when somebody opens it. */
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import type { RetryRequest, WireTask } from "../../../../../src/core/protocol/rest.ts";
import { client, problemText } from "../../../lib/client.ts";
import { writeDraft } from "../../../lib/drafts.ts";
import { putTask } from "../../../lib/tasks/task-list.ts";

type From = "push" | "checkpoint" | "start" | "edit";

const TEXTS: readonly (readonly [From, string, string])[] = [
  ["push", "Only the push", "The commit goes up as it is. No agent runs."],
  ["checkpoint", "From the checkpoint", "The agent continues where it stopped, with what it knows."],
  ["start", "From the start, the same prompt", "A fresh container and a fresh conversation."],
  ["edit", "From the start, another prompt", "Opens New task, filled in."],
];

export function RetryForm({ task, onClose }: { task: WireTask; onClose: () => void }) {
  const canPush = task.state === "failed" && task.headSha !== null;
  // Without saved work there is nothing to go on from.
  const canContinue = task.headSha !== null;
  const options = TEXTS.filter(([from]) => (from !== "push" || canPush) && (from !== "checkpoint" || canContinue));
  const [from, setFrom] = useState<From>(options[0]?.[0] ?? "start");
  const [problem, setProblem] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const navigate = useNavigate();

  const retry = async (): Promise<void> => {
    if (from === "edit") {
      writeDraft("new.repo", task.repo);
      writeDraft("new.prompt", task.prompt);
      await navigate({ to: "/new" });
      return;
    }
    setBusy(true);
    setProblem(null);
    try {
      const next = await client.retry(task.id, { from } satisfies RetryRequest);
      putTask(next);
      onClose();
      await navigate({ to: "/tasks/$id", params: { id: next.id } });
    } catch (thrown) {
      setProblem(problemText(thrown));
    } finally {
      setBusy(false);
    }
  };

  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        void retry();
      }}
    >
      <fieldset className="options">
        <legend className="sr">From where</legend>
        {options.map(([value, title, text]) => (
          <label key={value} className="option">
            <input type="radio" name="from" checked={from === value} onChange={() => setFrom(value)} />
            <b>{title}</b>
            <small>{text}</small>
          </label>
        ))}
      </fieldset>
      {problem !== null && (
        <p className="hint bad" role="alert">
          {problem}
        </p>
      )}
      <div className="acts">
        <button className="btn primary" type="submit" disabled={isBusy}>
          {from === "edit" ? "Edit the prompt" : "Start again"}
        </button>
      </div>
    </form>
  );
}
